"""The records of trainings in the bucket, each of which one Trainer alone may write.

    jobs/<user>/<job id>/job.json     the state, with the epoch of its writer; conditional writes only

A Trainer that takes over a job writes its own epoch into the record. From then on the condition of a write by
the former Trainer fails, and that Trainer finds the higher epoch.
"""

import re
from contextlib import suppress
from typing import NamedTuple

from registry.errors import JobNotFound, Superseded
from registry.leadership import MESSAGE
from registry.records import JobRecord
from registry.store import ObjectMissing, ObjectStore, StoredObject, WriteConflict

ID_PATTERN = re.compile(r"job-[0-9a-f]{24}")


class VersionedJob(NamedTuple):
    """A record as it was read, with the etag of that version."""

    record: JobRecord
    etag: str


class JobRecords:
    """The records that one process writes. `epoch` is that of its leadership; None: it has no rival.

    Every method that writes raises Superseded if a later Trainer has written the record.
    """

    def __init__(self, store: ObjectStore, epoch: int | None) -> None:
        self._store = store
        self._epoch = epoch
        self._etags: dict[str, str] = {}
        """The versions of unfinished jobs that this process wrote last, by the id of the job."""

    def find(self, user: str, job_id: str) -> VersionedJob | None:
        try:
            return versioned(self._store.get(record_key(user, job_id)))
        except ObjectMissing:
            return None

    def create(self, record: JobRecord) -> bool:
        """Write the record of a new job; returns False if there is one."""
        with suppress(WriteConflict):
            etag = self._store.create(record_key(record.user, record.id), self._stamped(record))
            self._etags[record.id] = etag
            return True
        return False

    def save(self, record: JobRecord) -> None:
        """Write over the version that this process wrote last."""
        key, body = record_key(record.user, record.id), self._stamped(record)
        etag = self._etags.get(record.id)
        while True:
            if etag is None and (found := self.find(record.user, record.id)) is not None:
                self.require_mine(found.record)
                etag = found.etag
            try:
                written = (
                    self._store.create(key, body) if etag is None else self._store.replace(key, body, etag)
                )
            except WriteConflict:
                etag = None  # an earlier write of unknown outcome, or one of a later Trainer
                continue
            self._etags[record.id] = written
            return

    def claim(self, job: VersionedJob) -> bool:
        """Write the epoch of this process over this version; returns False if there is a newer version."""
        self.require_mine(job.record)
        with suppress(WriteConflict):
            key = record_key(job.record.user, job.record.id)
            self._etags[job.record.id] = self._store.replace(key, self._stamped(job.record), job.etag)
            return True
        return False

    def is_mine(self, record: JobRecord) -> bool:
        """Return True if the record that was read has the epoch of this process."""
        return self._epoch is None or record.epoch == self._epoch

    def require_mine(self, found: JobRecord) -> None:
        """Raises: Superseded, if a later Trainer wrote the record that was found."""
        if self._epoch is not None and found.epoch > self._epoch:
            raise Superseded(MESSAGE)

    def forget(self, job_id: str) -> None:
        """Forget the version of a job that has ended."""
        self._etags.pop(job_id, None)

    def _stamped(self, record: JobRecord) -> bytes:
        """The record as this process writes it. Without a leadership it keeps the epoch that it has."""
        epoch = record.epoch if self._epoch is None else self._epoch
        return record.model_copy(update={"epoch": epoch}).model_dump_json().encode()


def versioned(stored: StoredObject) -> VersionedJob:
    return VersionedJob(JobRecord.model_validate_json(stored.body), stored.etag)


def job_prefix(user: str, job_id: str) -> str:
    """The beginning of the keys of a job. Raises: JobNotFound: a malformed id."""
    if not ID_PATTERN.fullmatch(job_id):
        raise JobNotFound("no such job")
    return f"jobs/{user}/{job_id}/"


def record_key(user: str, job_id: str) -> str:
    return f"{job_prefix(user, job_id)}job.json"

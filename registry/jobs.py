"""Training jobs in the bucket. A job that was accepted is durable.

    jobs/<user>/<job id>/request.json     the request to train; never changed
    jobs/<user>/<job id>/job.json         the state, with the epoch of its writer; conditional writes only
    jobs/<user>/<job id>/events-<epoch>.ndjson    the events that a follower reads; rewritten at each save
    jobs-active/<user>/<job id>           the marker, from acceptance to the end: recovery is one LIST

The marker is written last and deleted last. So a job that is not finished and has no marker was never
accepted: its writer died before it could answer. Such a job is not shown to anybody.

A Trainer that takes over an unfinished job first copies its events, and then writes the record with its own
epoch (`take_over`). From then on, no write of the former Trainer changes the job: the condition of its next
write fails, and its events are not those that the record names.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pydantic import ValidationError

from registry.errors import JobNotFound
from registry.job_records import ID_PATTERN, JobRecords, VersionedJob, job_prefix, versioned
from registry.records import JobRecord, JobRequest
from registry.store import ObjectMissing, ObjectStore

logger = logging.getLogger(__name__)

ACTIVE_PREFIX = "jobs-active/"
LAST_MILLISECOND = 2**48 - 1
OBJECTS_PER_JOB = 3
NOTHING_KNOWN: Mapping[str, JobRecord] = MappingProxyType({})


def nothing_is_known(user: str, job_id: str) -> bool:
    return False


class JobIds:
    """Makes ids of jobs. They are unique, and newer ids come first in a LIST: strictly so in one process.

    `clock_ns` is the clock of the machine, which may be set back. Ids then go on after the latest one.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._latest_ms = 0
        self._lock = threading.Lock()

    def generate(self) -> str:
        with self._lock:
            self._latest_ms = max(self._clock_ns() // 1_000_000, self._latest_ms + 1)
            return f"job-{LAST_MILLISECOND - self._latest_ms:012x}{secrets.token_hex(6)}"

    def note(self, job_id: str) -> None:
        """Make only later ids than this one of another process. An id that no clock made is ignored."""
        made_ms = LAST_MILLISECOND - int(job_id.removeprefix("job-")[:12], 16)
        if made_ms < LAST_MILLISECOND // 2:
            with self._lock:
                self._latest_ms = max(self._latest_ms, made_ms)


class OpenJob(NamedTuple):
    """An accepted job and its events. This process alone writes it, unless it has ended."""

    record: JobRecord
    events: list[str]


class Jobs:
    """The jobs of all users, for one process. `epoch` is that of its leadership; None: it has no rival.

    `ids` makes the ids of new jobs. They come after those of the unfinished jobs of earlier processes.

    Every method that writes a record raises Superseded if a later Trainer has written the job.
    """

    def __init__(self, store: ObjectStore, epoch: int | None = None, ids: JobIds | None = None) -> None:
        self.ids = ids or JobIds()
        self._store = store
        self._epoch = epoch
        self._records = JobRecords(store, epoch)

    def accept(self, record: JobRecord, request: JobRequest) -> OpenJob:
        """Write a job to the bucket. When this returns, the job survives the end of any process.

        If an earlier try with the same id, here or by another Trainer, wrote the job, that job is returned.
        """
        self._store.put(
            _object_key(record.user, record.id, "request.json"), request.model_dump_json().encode()
        )
        accepted: OpenJob | None = None
        while accepted is None:
            is_new = self._records.create(record)
            accepted = OpenJob(record, []) if is_new else self._accept_earlier(record)
        if not accepted.record.status.is_terminal:
            self._store.put(_marker(record.user, record.id), b"")
        return accepted

    def save(self, record: JobRecord) -> None:
        """Write the record over the version that this process wrote last."""
        self._records.save(record)

    def finish(self, record: JobRecord) -> None:
        """Save a terminal state and delete the marker of the job.

        Raises:
            ValueError: the status is not terminal.
        """
        if not record.status.is_terminal:
            raise ValueError(f"finish: status {record.status} is not terminal")
        self.save(record)
        self.unmark(record)

    def unmark(self, record: JobRecord) -> None:
        """Delete the marker of a job whose terminal state is saved."""
        self._store.delete(_marker(record.user, record.id))
        self._records.forget(record.id)

    def take_over(self, job: VersionedJob) -> OpenJob | None:
        """Make this process the writer of an unfinished job; None: it has ended meanwhile."""
        current: VersionedJob | None = job
        while current is not None and not current.record.status.is_terminal:
            self._records.require_mine(current.record)
            taken = self._take_over_once(current)
            if taken is not None:
                return taken
            current = self._records.find(job.record.user, job.record.id)
        return None

    def load(self, user: str, job_id: str) -> JobRecord:
        """The record of a job. Raises: JobNotFound: malformed, unknown, another user's, or never accepted."""
        found = self._accepted(self._read_many([_object_key(user, job_id, "job.json")]))
        if not found:
            raise JobNotFound("no such job")
        return found[0]

    def load_request(self, user: str, job_id: str) -> JobRequest:
        """The request of a job. Raises: JobNotFound."""
        try:
            stored = self._store.get(_object_key(user, job_id, "request.json"))
        except ObjectMissing as error:
            raise JobNotFound("no such job") from error
        return JobRequest.model_validate_json(stored.body)

    def active(self) -> list[JobRecord]:
        """The accepted and unfinished jobs of all users, oldest first."""
        return [job.record for job in self.unfinished()]

    def unfinished(self, is_known: Callable[[str, str], bool] = nothing_is_known) -> list[VersionedJob]:
        """The accepted and unfinished jobs of all users, oldest first, as they are in the bucket.

        A marker of a finished job (after a crash inside `finish`) is removed. A marker that names no job, and
        a record that cannot be read, stay as they are, for the operator; the other jobs go on. A job that
        `is_known`, by its user and its id, is not read.
        """
        markers = self._store.list(ACTIVE_PREFIX)
        names = [name for marker in markers if (name := _name_of(marker)) and not is_known(*name)]
        for _, job_id in names:
            self.ids.note(job_id)
        keys = [_object_key(user, job_id, "job.json") for user, job_id in names]
        stale: list[str] = []
        unfinished: list[VersionedJob] = []
        for (user, job_id), stored in zip(names, self._store.get_many(keys), strict=True):
            try:
                found = None if stored is None else versioned(stored)
            except ValidationError:
                logger.error("the record of job %s cannot be read; it does not run", job_id)
                continue
            if found is None or found.record.status.is_terminal:
                stale.append(_marker(user, job_id))
            else:
                unfinished.append(found)
        if stale:
            self._store.delete_many(stale)
        return sorted(unfinished, key=lambda job: job.record.id, reverse=True)

    def page(
        self, user: str, after: str | None, limit: int, known: Mapping[str, JobRecord] = NOTHING_KNOWN
    ) -> list[JobRecord]:
        """Up to `limit` jobs of one user, newest first, from the one after `after` on.

        `known` has accepted jobs by id. Their records are not read; only their place is looked up.

        Raises:
            JobNotFound: `after` is malformed.
        """
        prefix = f"jobs/{user}/"
        start_after = _end_of(user, after) if after is not None else ""
        page: list[JobRecord] = []
        while len(page) < limit:
            asked = (limit - len(page)) * OBJECTS_PER_JOB
            keys = self._store.list(prefix, start_after, asked)
            ids = [key.split("/")[2] for key in keys if key.endswith("/job.json")]
            page += self._described(user, ids, known)
            if len(keys) < asked:
                break
            start_after = keys[-1]
        return page[:limit]

    def _described(self, user: str, ids: Sequence[str], known: Mapping[str, JobRecord]) -> list[JobRecord]:
        """The records of the accepted jobs among `ids`, in the order of `ids`."""
        unknown = [_object_key(user, job_id, "job.json") for job_id in ids if job_id not in known]
        read = {record.id: record for record in self._accepted(self._read_many(unknown))}
        found = [known.get(job_id) or read.get(job_id) for job_id in ids]
        return [record for record in found if record is not None]

    def save_events(self, user: str, job_id: str, lines: Sequence[str]) -> None:
        body = "".join(f"{line}\n" for line in lines)
        self._store.put(_object_key(user, job_id, _events_name(self._epoch or 0)), body.encode())

    def load_events(self, user: str, job_id: str, epoch: int = 0) -> list[str]:
        """The events that the Trainer of `epoch` saved; empty before its first save.

        Raises: JobNotFound: a malformed id.
        """
        try:
            stored = self._store.get(_object_key(user, job_id, _events_name(epoch)))
        except ObjectMissing:
            return []
        return stored.body.decode().split("\n")[:-1]

    def _accept_earlier(self, record: JobRecord) -> OpenJob | None:
        """Accept the job that an earlier try has written; None: it is not there any more."""
        found = self._records.find(record.user, record.id)
        if found is None or found.record.status.is_terminal:
            return None if found is None else OpenJob(found.record, [])
        return self.take_over(found)

    def _take_over_once(self, job: VersionedJob) -> OpenJob | None:
        """Copy the events and claim the record; None: the record is a newer one by now."""
        record = job.record
        # A job that only waited has no saved events, so nothing is read for each of a thousand of them.
        has_events = record.attempt > 0 or record.is_cancelled or record.is_held
        events = self.load_events(record.user, record.id, record.epoch) if has_events else []
        if self._records.is_mine(record):
            return OpenJob(record, events)
        if events:
            self.save_events(record.user, record.id, events)
        return OpenJob(record, events) if self._records.claim(job) else None

    def _read_many(self, keys: Sequence[str]) -> list[JobRecord | None]:
        return [
            JobRecord.model_validate_json(stored.body) if stored is not None else None
            for stored in self._store.get_many(keys)
        ]

    def _accepted(self, records: Sequence[JobRecord | None]) -> list[JobRecord]:
        """The records without those that do not exist or were never accepted."""
        found = [record for record in records if record is not None]
        unfinished = [record for record in found if not record.status.is_terminal]
        markers = self._store.get_many([_marker(record.user, record.id) for record in unfinished])
        unmarked = [r for r, marker in zip(unfinished, markers, strict=True) if marker is None]
        # A job that finished between the two reads has no marker either, and its status is terminal by now.
        read_again = self._read_many([_object_key(r.user, r.id, "job.json") for r in unmarked])
        newer = {old.id: new for old, new in zip(unmarked, read_again, strict=True)}
        current = [newer.get(record.id, record) for record in found]
        return [
            record
            for record in current
            if record is not None and (record.status.is_terminal or record.id not in newer)
        ]


def _object_key(user: str, job_id: str, name: str) -> str:
    return job_prefix(user, job_id) + name


def _end_of(user: str, job_id: str) -> str:
    """A key that comes after every object of this job and before those of the next job."""
    return job_prefix(user, job_id) + "~"


def _events_name(epoch: int) -> str:
    return f"events-{epoch}.ndjson" if epoch else "events.ndjson"


def _name_of(marker: str) -> tuple[str, str] | None:
    """The user and the id of the job of a marker; None, with a message in the log, if it names no job."""
    user, _, job_id = marker.removeprefix(ACTIVE_PREFIX).partition("/")
    if user and ID_PATTERN.fullmatch(job_id):
        return user, job_id
    logger.error("the object %s is not the marker of a job; nothing runs for it", marker)
    return None


def _marker(user: str, job_id: str) -> str:
    return f"{ACTIVE_PREFIX}{user}/{job_id}"

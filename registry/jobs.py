"""Training jobs in the bucket. A job that was accepted is durable.

    jobs/<user>/<job id>/request.json     the request to train; never changed
    jobs/<user>/<job id>/job.json         the state; only the process that works on the job writes it
    jobs/<user>/<job id>/events.ndjson    the events that a follower reads; rewritten whole at each save
    jobs-active/<user>/<job id>           the marker, from acceptance to the end: recovery is one LIST

The marker is written last and deleted last. So a job that is not finished and has no marker was never
accepted: its writer died before it could answer. Such a job is not shown to anybody.
"""

import logging
import re
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pydantic import ValidationError

from registry.errors import JobNotFound
from registry.records import JobRecord, JobRequest
from registry.store import ObjectMissing, ObjectStore

logger = logging.getLogger(__name__)

ACTIVE_PREFIX = "jobs-active/"
ID_PATTERN = re.compile(r"job-[0-9a-f]{24}")
LAST_MILLISECOND = 2**48 - 1
OBJECTS_PER_JOB = 3
NOTHING_KNOWN: Mapping[str, JobRecord] = MappingProxyType({})


class JobIds:
    """Makes ids of jobs. They are unique, and newer ids come first in a LIST: strictly so in one process."""

    def __init__(self) -> None:
        self._previous_ms = 0
        self._lock = threading.Lock()

    def generate(self) -> str:
        with self._lock:
            self._previous_ms = max(time.time_ns() // 1_000_000, self._previous_ms + 1)
            return f"job-{LAST_MILLISECOND - self._previous_ms:012x}{secrets.token_hex(6)}"


class Jobs:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def accept(self, record: JobRecord, request: JobRequest) -> None:
        """Write a job to the bucket. When this returns, the job survives the end of any process."""
        self._store.put(
            _object_key(record.user, record.id, "request.json"), request.model_dump_json().encode()
        )
        self.save(record)
        self._store.put(_marker(record.user, record.id), b"")

    def save(self, record: JobRecord) -> None:
        self._store.put(_object_key(record.user, record.id, "job.json"), record.model_dump_json().encode())

    def finish(self, record: JobRecord) -> None:
        """Save a terminal state and delete the marker of the job.

        Raises:
            ValueError: the status is not terminal.
        """
        if not record.status.is_terminal:
            raise ValueError(f"finish: status {record.status} is not terminal")
        self.save(record)
        self._store.delete(_marker(record.user, record.id))

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
        """The accepted and unfinished jobs of all users, oldest first.

        A marker of a finished job (after a crash inside `finish`) is removed. A record that cannot be read
        stays as it is, for the operator; the other jobs go on.
        """
        markers = self._store.list(ACTIVE_PREFIX)
        names = [tuple(marker.removeprefix(ACTIVE_PREFIX).split("/")) for marker in markers]
        keys = [_object_key(user, job_id, "job.json") for user, job_id in names]
        stale, unfinished = [], []
        for marker, (_, job_id), stored in zip(markers, names, self._store.get_many(keys), strict=True):
            try:
                record = None if stored is None else JobRecord.model_validate_json(stored.body)
            except ValidationError:
                logger.error("the record of job %s cannot be read; it does not run", job_id)
                continue
            if record is None or record.status.is_terminal:
                stale.append(marker)
            else:
                unfinished.append(record)
        if stale:
            self._store.delete_many(stale)
        return sorted(unfinished, key=lambda record: record.id, reverse=True)

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
        self._store.put(_object_key(user, job_id, "events.ndjson"), body.encode())

    def load_events(self, user: str, job_id: str) -> list[str]:
        """The saved events; empty before the first save. Raises: JobNotFound: a malformed id."""
        try:
            stored = self._store.get(_object_key(user, job_id, "events.ndjson"))
        except ObjectMissing:
            return []
        return stored.body.decode().split("\n")[:-1]

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


def _job_prefix(user: str, job_id: str) -> str:
    if not ID_PATTERN.fullmatch(job_id):
        raise JobNotFound("no such job")
    return f"jobs/{user}/{job_id}/"


def _object_key(user: str, job_id: str, name: str) -> str:
    return _job_prefix(user, job_id) + name


def _end_of(user: str, job_id: str) -> str:
    """A key that comes after every object of this job and before those of the next job."""
    return _job_prefix(user, job_id) + "~"


def _marker(user: str, job_id: str) -> str:
    return f"{ACTIVE_PREFIX}{user}/{job_id}"

"""The copies of trainings.

    marker -> job.json -> state -> job.json again -> events, request     ... models ...     job.json again

The service writes these objects in the opposite order. So the copy of a job has everything that the copies
before it lean on: a job whose marker is gone has its end in `job.json`, and a state is never ahead of the
events. A job without a marker and without an end was not accepted, or only after the backup had begun.

The models are copied later than the jobs. So the copy of a model may have the revision of a job whose copy
waits or runs. Such a job would be trained twice after a restore, and is therefore copied again.
"""

from collections.abc import Mapping

from pydantic import ValidationError

from registry.backup.copies import Copies
from registry.backup.place import in_parallel
from registry.backup.revision_keys import state_key
from registry.jobs import ACTIVE_PREFIX
from registry.records import JobRecord, JobStatus
from registry.store import ObjectMissing, ObjectStore

JOBS = "jobs/"
RECORD = "job.json"


class JobCopies:
    def __init__(self, source: ObjectStore, copies: Copies) -> None:
        self._source = source
        self._copies = copies
        self._unfinished: dict[str, JobRecord] = {}

    def copy_all(self) -> None:
        """Copy the trainings that are accepted now, and those that have ended."""
        marked = {key.removeprefix(ACTIVE_PREFIX) for key in self._source.list(ACTIVE_PREFIX)}
        found = [key for key in self._source.list(JOBS) if key.endswith(f"/{RECORD}")]
        names = [key.removeprefix(JOBS).removesuffix(f"/{RECORD}") for key in found]
        in_parallel(lambda name: self._copy(name, is_accepted=name in marked), names)

    def copy_maker(self, user: str, job: str) -> None:
        """Copy the job that made a published revision, if `copy_all` came too early for it.

        Only an accepted job publishes a revision, so this job is accepted without a look at its marker.
        """
        name = f"{user}/{job}"
        if not self._copies.has(f"{JOBS}{name}/{RECORD}"):
            self._copy(name, is_accepted=True)

    def settle(self, latest_revisions: Mapping[str, int]) -> None:
        """Copy unfinished jobs again, if the copied models show or allow what has become of them.

        Args:
            latest_revisions: those of all copied models, by uid.
        """
        for name, copied in list(self._unfinished.items()):
            latest = latest_revisions.get(copied.uid)
            if (record := self._read(name)) is not None and _is_known(record, latest):
                self._drop_state(copied)
                self._put(name, _with_known_checkpoints(record, latest))

    def _copy(self, name: str, is_accepted: bool) -> None:
        record = self._read(name)
        if record is None or not (record.status.is_terminal or is_accepted):
            return
        if not record.status.is_terminal and record.revision is not None:
            self._copies.take(state_key(record.uid, record.revision, record.id))
            now = self._read(name) or record
            if now.status.is_terminal:
                self._drop_state(record)
            record = now
        self._put(name, record)

    def _put(self, name: str, record: JobRecord) -> None:
        key = f"{JOBS}{name}/{RECORD}"
        self._copies.put(key, record.model_dump_json().encode())
        for other in self._source.list(f"{JOBS}{name}/"):
            if other != key:
                self._copies.take(other)
        if not self._copies.has(f"{JOBS}{name}/request.json"):
            self._copies.note_damage(f"{JOBS}{name}/request.json")
        if record.status.is_terminal:
            self._copies.drop(ACTIVE_PREFIX + name)
        else:
            self._copies.put(ACTIVE_PREFIX + name, b"")
            self._unfinished[name] = record

    def _drop_state(self, record: JobRecord) -> None:
        """Drop the state of a job that will not continue with it."""
        if record.revision is not None:
            self._copies.drop(state_key(record.uid, record.revision, record.id))

    def _read(self, name: str) -> JobRecord | None:
        """The record of a job, or None. A record that cannot be read is damage, as for the controller."""
        key = f"{JOBS}{name}/{RECORD}"
        try:
            return JobRecord.model_validate_json(self._source.get(key).body)
        except ObjectMissing:
            return None
        except ValidationError:
            self._copies.note_damage(key)
            return None


def _is_known(record: JobRecord, latest: int | None) -> bool:
    """Return True if a job may be copied as it is now, though its model was copied before.

    Without a revision the model shows nothing of the job, so its end may be copied, but not its beginning.
    With a revision, the copied model must have it, or the first checkpoint of a job that has not succeeded:
    such a job makes its revisions with the same numbers again. `latest` None: the model is deleted.
    """
    if record.revision is None:
        return record.status.is_terminal
    first = record.revision
    if record.checkpoints and record.status is not JobStatus.SUCCEEDED:
        first = record.checkpoints[0].revision
    return latest is None or first <= latest


def _with_known_checkpoints(record: JobRecord, latest: int | None) -> JobRecord:
    """Leave out checkpoints that the copied model does not have, if no attempt will make them again."""
    if latest is None or record.revision is not None:
        return record
    known = tuple(made for made in record.checkpoints if made.revision <= latest)
    return record.model_copy(update={"checkpoints": known})

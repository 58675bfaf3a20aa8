"""Backups while `tiger deploy` replaces the Trainer. The next one takes over at any read of the backup."""

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.backup.backup import Backup
from registry.backup.restore import Restore
from registry.backup.revision_keys import state_key
from registry.jobs import Jobs, OpenJob
from registry.layout import open_bucket
from registry.leadership import PREFIX as LEADERS
from registry.leadership import TRAINER, Leader, Leadership
from registry.records import JobRecord, JobStatus
from registry.store import ObjectStore
from tests.support.bucket_life import Life
from tests.support.memory_s3 import MemoryClient, memory_store, nothing

USER = "alice"
NUM_READS = 60
"""It is more than a backup of this bucket has."""


class Trainer:
    """A Trainer that takes over the training of the bucket, and makes steps of it.

    As the real one does, it saves the events before the worker writes a state. The state is the number of
    events that lead to it.
    """

    def __init__(self, store: ObjectStore, cluster: str) -> None:
        self._store = store
        leadership = Leadership(store, TRAINER, cluster)
        leadership.take()
        self.epoch = leadership.epoch
        self.jobs = Jobs(store, self.epoch)

    def take_over(self) -> OpenJob:
        (found,) = self.jobs.unfinished()
        taken = self.jobs.take_over(found)
        assert taken is not None
        return taken

    def train(self, taken: OpenJob) -> OpenJob:
        record = taken.record.model_copy(
            update={"status": JobStatus.RUNNING, "attempt": taken.record.attempt + 1, "revision": 1}
        )
        events = [*taken.events, f"an event of attempt {record.attempt}"]
        self._save(record, events)
        self._store.put(state_key(record.uid, 1, record.id), str(len(events)).encode())
        return OpenJob(record, events)

    def cancel(self, taken: OpenJob) -> None:
        record = taken.record.model_copy(update={"is_cancelled": True})
        self._save(record, [*taken.events, "ended"])
        self._store.delete(state_key(record.uid, 1, record.id))
        self.jobs.finish(record.model_copy(update={"status": JobStatus.CANCELLED, "revision": None}))

    def _save(self, record: JobRecord, events: list[str]) -> None:
        self.jobs.save_events(USER, record.id, events)
        self.jobs.save(record)


def at_read(number: int, act: Callable[[], None]) -> Callable[[str], None]:
    """Make the hook that acts before the read with this number, counted from zero."""
    reads: list[str] = []

    def hook(key: str) -> None:
        reads.append(key)
        if len(reads) == number + 1:
            act()

    return hook


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_copy_is_whole_whenever_the_next_trainer_takes_over(tmp_path: Path, is_cancelled: bool) -> None:
    num_copies_with_each = {"old": 0, "new": 0}
    for number in range(NUM_READS):
        objects: dict[str, bytes] = {}
        store = memory_store(MemoryClient(objects))
        open_bucket(store)
        alice = Life(store, USER, tmp_path / str(number), seed=0)
        alice.create()
        alice.accept(alice.models()[0])
        former = Trainer(store, "cluster")
        former.train(former.take_over())

        def redeploy(store: ObjectStore = store) -> None:
            later = Trainer(store, "cluster")
            taken = later.train(later.take_over())
            if is_cancelled:
                later.cancel(taken)

        place = memory_store()
        Backup(memory_store(MemoryClient(objects, at_read(number, redeploy))), place, nothing).make()
        copy = memory_store()
        Restore(place, copy, nothing).run()
        epoch = copied_epoch(copy)
        num_copies_with_each["old" if epoch == former.epoch else "new"] += 1
    assert all(num_copies_with_each.values()), "some takeovers come early and some late"


def copied_epoch(copy: ObjectStore) -> int:
    """The epoch of the copied training, after a look at everything that leans on something else."""
    (key,) = (key for key in copy.list("jobs/") if key.endswith("/job.json"))
    record = JobRecord.model_validate_json(copy.get(key).body)
    leader = Leader.model_validate_json(copy.get(f"{LEADERS}{TRAINER}.json").body)
    assert leader.epoch >= record.epoch
    state = copy.list(state_key(record.uid, 1, record.id))
    if record.status.is_terminal:
        assert not state and not copy.list("jobs-active/")
        assert Jobs(copy).load_events(USER, record.id, record.epoch)[-1] == "ended"
    else:
        num_events = int(copy.get(state[0]).body) if state else 0
        taken = Trainer(copy, "cluster").take_over()
        assert len(taken.events) >= num_events, "no state is ahead of its events"
        assert len(taken.events) >= record.attempt
    return record.epoch

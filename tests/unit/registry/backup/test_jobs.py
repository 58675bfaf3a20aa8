"""Copies of trainings that make a revision of each epoch."""

from pathlib import Path

import pytest

from registry.backup.backup import Backup
from registry.backup.restore import Restore
from registry.jobs import Jobs
from registry.layout import open_bucket
from registry.records import Checkpoint, JobStatus, utc_now
from registry.user_models import UserModelStore
from tests.support.bucket_life import Life
from tests.support.memory_s3 import MemoryClient, memory_store, nothing, once_at

USER = "alice"


@pytest.mark.parametrize("status", [JobStatus.RUNNING, JobStatus.SUCCEEDED])
def test_job_whose_first_checkpoint_was_copied_with_its_model_goes_on_with_the_same_numbers(
    tmp_path: Path, status: JobStatus
) -> None:
    """Else it would begin anew after a restore, behind its own checkpoint.

    The copy of the model has only that checkpoint. So a job that has succeeded meanwhile waits again.
    """
    objects: dict[str, bytes] = {}
    store = memory_store(MemoryClient(objects))
    open_bucket(store)
    alice = Life(store, USER, tmp_path / USER, seed=0)
    alice.create()
    (model,) = alice.models()
    record = alice.accept(model)
    made = Checkpoint(revision=1, step=2, created=utc_now())
    running = record.model_copy(update={"attempt": 1, "revision": 3, "checkpoints": (made,)})

    def keep_and_go_on() -> None:
        alice.publish(model, 1, record.id)
        Jobs(store).save(running.model_copy(update={"status": status}))

    place, copy = memory_store(), memory_store()
    Backup(memory_store(MemoryClient(objects, once_at("users/", keep_and_go_on))), place, nothing).make()
    Restore(place, copy, nothing).run()
    open_bucket(copy)
    (found,) = Jobs(copy).active()
    assert UserModelStore(copy).load(USER).models.models[0].latest_revision == 1
    is_known = status is JobStatus.RUNNING
    assert (found.revision, found.checkpoints) == ((3, (made,)) if is_known else (None, ()))


def test_job_that_was_cancelled_meanwhile_shows_no_checkpoint_that_the_copied_model_lacks(
    tmp_path: Path,
) -> None:
    """The next training after a restore makes a revision with that number, which is not of this job."""
    objects: dict[str, bytes] = {}
    store = memory_store(MemoryClient(objects))
    open_bucket(store)
    alice = Life(store, USER, tmp_path / USER, seed=0)
    alice.create()
    (model,) = alice.models()
    record = alice.accept(model)
    first, second = (Checkpoint(revision=number, step=2 * number, created=utc_now()) for number in (1, 2))
    alice.publish(model, 1, record.id)
    running = record.model_copy(update={"attempt": 1, "revision": 3, "checkpoints": (first,)})
    Jobs(store).save(running)

    def keep_and_cancel() -> None:
        changes = {"status": JobStatus.CANCELLED, "revision": None, "checkpoints": (first, second)}
        Jobs(store).finish(running.model_copy(update=changes))

    place, copy = memory_store(), memory_store()
    client = MemoryClient(objects, once_at(f"users/{USER}/models.json", keep_and_cancel))
    Backup(memory_store(client), place, nothing).make()
    Restore(place, copy, nothing).run()
    open_bucket(copy)
    found = Jobs(copy).load(USER, record.id)
    assert (found.status, found.checkpoints) == (JobStatus.CANCELLED, (first,))

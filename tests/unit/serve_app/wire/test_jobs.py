"""The record of a training becomes an answer, also without the fields that only some trainings have."""

from registry.records import Checkpoint, JobRecord, JobStatus, utc_now
from serve_app.wire.jobs import Job

RECORD = JobRecord(id="job-1", user="alice", uid="u", model="m", base_model="b", created=utc_now(), steps=3)


def test_job_without_checkpoints_has_an_empty_list_of_them() -> None:
    answer = Job.of(RECORD)
    assert (answer.id, answer.status, answer.checkpoints) == ("job-1", JobStatus.QUEUED, ())


def test_job_with_checkpoints_shows_them_and_its_pause() -> None:
    made = Checkpoint(revision=1, step=2, created=utc_now(), metrics={"loss": 0.5})
    answer = Job.of(RECORD.model_copy(update={"checkpoints": (made,), "is_held": True}))
    assert answer.status is JobStatus.PAUSED
    assert [(each.revision, each.step) for each in answer.checkpoints] == [(1, 2)]

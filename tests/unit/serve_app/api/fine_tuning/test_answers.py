"""Records and events of trainings in OpenAI's form, in pages."""

import json
from typing import Any

import pytest
from openai.types import fine_tuning as of_openai

from registry.errors import InvalidRequest
from registry.fine_tuning import FineTuning, FineTuningHyperparameters, result_file_id
from registry.records import Checkpoint, JobError, JobRecord, JobStatus, utc_now
from serve_app.api.fine_tuning.answers import answer_of, checkpoints_of
from serve_app.api.fine_tuning.events import events_of
from serve_app.api.fine_tuning.pages import MetadataFilter, page_of

JOB_ID = "job-fe5de5de8f1e7a0ac699a38e"
NOW = utc_now()


def record(beta: float | None = None, **fields: Any) -> JobRecord:
    shown = FineTuning(
        method="supervised" if beta is None else "dpo",
        model="base",
        makes_model=True,
        training_file="file-1",
        seed=7,
        hyperparameters=FineTuningHyperparameters(
            batch_size=8, learning_rate_multiplier=1, num_epochs=2, beta=beta
        ),
    )
    common = {"id": JOB_ID, "user": "alice", "uid": "u", "model": "base-1", "base_model": "base", "steps": 4}
    return JobRecord.model_validate({**common, "created": NOW, "fine_tuning": shown, **fields})


def read(job: JobRecord) -> of_openai.FineTuningJob:
    """The answer as the official client reads it."""
    return of_openai.FineTuningJob.model_validate(answer_of(job).model_dump(mode="json"))


def test_job_has_no_result_before_its_end() -> None:
    job = read(record(status=JobStatus.RUNNING))
    assert (job.status, job.fine_tuned_model, job.result_files, job.trained_tokens) == (
        "running",
        None,
        [],
        None,
    )
    assert (job.model, job.created_at, job.finished_at) == ("base", int(NOW.timestamp()), None)
    assert answer_of(record(is_held=True)).status == "paused"


def test_ended_job_has_its_result_or_its_error() -> None:
    job = read(record(status=JobStatus.SUCCEEDED, finished=NOW, revision=2, trained_tokens=9))
    assert (job.fine_tuned_model, job.trained_tokens) == ("base-1", 9)
    assert job.result_files == [result_file_id(JOB_ID)]
    failed = read(record(status=JobStatus.FAILED, finished=NOW, error=JobError(code="c", message="m")))
    assert failed.error is not None and (failed.error.code, failed.error.message) == ("c", "m")
    assert failed.fine_tuned_model is None


def test_method_has_the_values_that_hold() -> None:
    supervised, dpo = read(record()).method, read(record(beta=0.2)).method
    assert supervised is not None and supervised.supervised is not None and supervised.dpo is None
    assert dpo is not None and dpo.dpo is not None and dpo.dpo.hyperparameters is not None
    assert (dpo.dpo.hyperparameters.beta, dpo.dpo.hyperparameters.n_epochs) == (0.2, 2)


def test_checkpoints_are_the_revisions_of_epochs_newest_first() -> None:
    first = Checkpoint(revision=1, step=2, created=NOW, metrics={"loss": 0.5, "valid_loss": 0.7})
    assert [each.fine_tuned_model_checkpoint for each in checkpoints_of(record(checkpoints=(first,)))] == [
        "base-1@1"
    ]
    end: Any = {"status": JobStatus.SUCCEEDED, "finished": NOW, "revision": 2, "metrics": {"loss": 0.1}}
    last, before = checkpoints_of(record(checkpoints=(first,), **end))
    assert (last.fine_tuned_model_checkpoint, last.step_number) == ("base-1@2", 4)
    assert (before.metrics.train_loss, before.metrics.full_valid_loss) == (0.5, 0.7)
    assert checkpoints_of(record(status=JobStatus.CANCELLED, finished=NOW, revision=None)) == []


def test_events_are_messages_and_numbers_newest_first() -> None:
    step = {"step": 1, "steps": 4, "loss": 2.0, "token_accuracy": 0.5, "valid_loss": 3.0, "grad_norm": 1.0}
    lines = [
        {"type": "info", "message": "Queued", "created_at": 5},
        {"type": "progress", **step, "created_at": 6},
        {"type": "error", "message": "no luck", "error": {}, "created_at": 7},
        {"type": "stop", "model": "base-1"},
    ]
    stop, error, progress, queued = events_of(record(), [json.dumps(line) + "\n" for line in lines])
    assert (queued.message, queued.type, queued.level, queued.created_at) == ("Queued", "message", "info", 5)
    assert progress.type == "metrics" and progress.message == (
        "Step 1/4: training loss=2.000, validation loss=3.000"
    )
    assert progress.data == {
        "step": 1,
        "total_steps": 4,
        "train_loss": 2.0,
        "train_mean_token_accuracy": 0.5,
        "valid_loss": 3.0,
    }
    assert (error.level, error.message) == ("error", "no luck")
    assert "base-1" in stop.message and stop.created_at == int(NOW.timestamp())
    page, has_more = page_of([stop, error, progress, queued], error.id, 1)
    assert (page, has_more) == ([progress], True)
    assert page_of([stop, error, progress, queued], progress.id, 5) == ([queued], False)
    with pytest.raises(InvalidRequest, match="after"):
        page_of([stop], "ftevent-unknown", 5)


@pytest.mark.parametrize(
    ("query", "accepted"),
    [
        ({}, [{"a": "1", "b": "2"}, {"a": "1"}, None]),
        ({"metadata[a]": "1"}, [{"a": "1", "b": "2"}, {"a": "1"}]),
        ({"metadata[a]": "1", "metadata[b]": "2"}, [{"a": "1", "b": "2"}]),
        ({"metadata[c]": ""}, []),
        ({"metadata": "null"}, [None]),
    ],
)
def test_metadata_selects_jobs(query: dict[str, str], accepted: list[dict[str, str] | None]) -> None:
    every: list[dict[str, str] | None] = [{"a": "1", "b": "2"}, {"a": "1"}, None]
    chosen = MetadataFilter(query)
    assert [metadata for metadata in every if chosen.accepts(metadata)] == accepted


@pytest.mark.parametrize("query", [{"metadata": "x"}, {"metadata": "null", "metadata[a]": "1"}])
def test_wrong_selection_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="metadata"):
        MetadataFilter(query)

"""Requests for fine-tuning mean what they mean at OpenAI, and what does not exist here is refused by name."""

from typing import Any

import pytest
from openai.types import fine_tuning as of_openai
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import ValidationError

from registry.records import Method
from serve_app.wire.fine_tuning import (
    MAX_JOB_EPOCHS,
    CheckpointMetrics,
    Chosen,
    CreateFineTuningJob,
    DpoHyperparameters,
    DpoMethod,
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    FineTuningMethod,
    SupervisedHyperparameters,
)

JOB = {"model": "model42", "training_file": "file-1"}


def chosen(**more: Any) -> Chosen:
    return CreateFineTuningJob.model_validate({**JOB, **more}).chosen()


def refusal(**more: Any) -> tuple[str, str]:
    """The path of the field that is refused, and the reason."""
    with pytest.raises(ValidationError) as refused:
        CreateFineTuningJob.model_validate({**JOB, **more})
    first = refused.value.errors()[0]
    return ".".join(map(str, first["loc"])), first["msg"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"method": {"type": "supervised"}},
        {"method": {"type": "supervised", "supervised": {}}},
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}}},
        {"hyperparameters": {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}},
        {"integrations": None, "suffix": None, "validation_file": None, "seed": None, "metadata": None},
        {"integrations": []},
        {"method": {"type": "supervised", "reinforcement": None, "dpo": None}},
    ],
)
def test_service_chooses_what_is_not_given(more: dict[str, Any]) -> None:
    assert chosen(**more) == Chosen(Method.SUPERVISED)


def test_older_and_newer_form_mean_the_same() -> None:
    given = {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 2}
    older = chosen(hyperparameters=given)
    assert older == Chosen(Method.SUPERVISED, batch_size=4, learning_rate_multiplier=2, num_epochs=3)
    assert older == chosen(method={"type": "supervised", "supervised": {"hyperparameters": given}})


def test_dpo_has_a_beta() -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1, "n_epochs": "auto"}}}
    assert chosen(method=method) == Chosen(Method.DPO, beta=0.1)
    assert chosen(method={"type": "dpo"}) == Chosen(Method.DPO)


@pytest.mark.parametrize(
    ("more", "place", "reason"),
    [
        ({"method": {"type": "reinforcement"}}, "method.type", "`reinforcement` is not supported"),
        (
            {"method": {"type": "supervised", "reinforcement": {"grader": {}}}},
            "method.reinforcement",
            "`reinforcement` is not supported",
        ),
        ({"method": {"type": "supervised", "dpo": {}}}, "method.dpo", "`dpo` is not for the type"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised", "`supervised` is not for"),
        (
            {"method": {"type": "supervised"}, "hyperparameters": {}},
            "hyperparameters",
            "give them in `method`",
        ),
        ({"integrations": [{"type": "wandb"}]}, "integrations", "this field is not supported; no results"),
        ({"hyperparameters": {"beta": 0.1}}, "hyperparameters.beta", "Extra inputs are not permitted"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs.literal['auto']", "Input should be"),
        ({"metadata": {"a": 1}}, "metadata.a", "Input should be a valid string"),
        ({"suffix": "x" * 65}, "suffix", "String should have at most 64 characters"),
        ({"graders": []}, "graders", "Extra inputs are not permitted"),
    ],
)
def test_wrong_request_is_refused_with_the_place(more: dict[str, Any], place: str, reason: str) -> None:
    found = refusal(**more)
    assert found[0] == place and found[1].startswith(reason)


@pytest.mark.parametrize("value", ["Auto", "3", True, 0.5, None, 101])
def test_number_of_epochs_is_a_number_or_auto(value: Any) -> None:
    assert refusal(hyperparameters={"n_epochs": value})[0].startswith("hyperparameters.n_epochs")


def test_as_many_epochs_are_accepted_as_a_job_may_make_revisions() -> None:
    values = SupervisedHyperparameters(n_epochs=MAX_JOB_EPOCHS)
    assert values.chosen(Method.SUPERVISED).num_epochs == 100


def test_dpo_without_a_gradient_is_refused() -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0}}}
    assert refusal(method=method)[0].startswith("method.dpo.hyperparameters.beta")


def test_official_client_reads_the_answers() -> None:
    method = FineTuningMethod(
        type="dpo", dpo=DpoMethod(hyperparameters=DpoHyperparameters(beta=0.1, n_epochs=2))
    )
    job = FineTuningJob(
        id="ftjob-1",
        created_at=1,
        finished_at=None,
        status="running",
        model="model42",
        fine_tuned_model=None,
        training_file="file-1",
        validation_file=None,
        result_files=(),
        trained_tokens=None,
        error=None,
        method=method,
        hyperparameters=SupervisedHyperparameters(n_epochs=2),
        seed=1,
        metadata={"team": "a"},
    )
    read = of_openai.FineTuningJob.model_validate(job.model_dump(mode="json"), strict=True)
    assert read.method is not None and read.method.dpo is not None
    assert read.method.dpo.hyperparameters is not None and read.method.dpo.hyperparameters.beta == 0.1
    assert (read.hyperparameters.n_epochs, read.hyperparameters.batch_size) == (2, "auto")
    event = FineTuningEvent(id="e", created_at=1, level="info", message="m", type="metrics", data={"loss": 1})
    assert of_openai.FineTuningJobEvent.model_validate(event.model_dump(mode="json")).type == "metrics"
    checkpoint = FineTuningCheckpoint(
        id="c",
        created_at=1,
        fine_tuning_job_id=job.id,
        fine_tuned_model_checkpoint="model42@1",
        step_number=7,
        metrics=CheckpointMetrics(step=7, train_loss=0.5),
    )
    told = FineTuningJobCheckpoint.model_validate(checkpoint.model_dump(mode="json"))
    assert (told.fine_tuned_model_checkpoint, told.metrics.train_loss) == ("model42@1", 0.5)

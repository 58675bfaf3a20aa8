"""Records that releases before this one wrote, and what this one writes."""

import json

import pytest

from registry.fine_tuning import FineTuning, FineTuningHyperparameters
from registry.records import (
    Checkpoint,
    Example,
    Group,
    Hyperparameters,
    JobRecord,
    JobRequest,
    JobStatus,
    Message,
    Method,
    Pair,
    RewardedResponse,
    Schedule,
    utc_now,
)

OF_FIRST_RELEASE = (
    '{"groups":[{"messages":[{"role":"user","content":"?"}],"responses":['
    '{"content":"a","reward":1.0,"ends_turn":true},{"content":"","reward":-0.5,"ends_turn":false}]}],'
    '"hyperparameters":{"learning_rate":0.00001,"learning_steps":5,"beta":0.04,"epsilon":0.2}}'
)
"""A training of GRPO, as it was written when there was no other method."""


def test_training_that_uses_nothing_new_is_the_same_text_as_before() -> None:
    group = Group(
        messages=(Message(role="user", content="?"),),
        responses=(
            RewardedResponse(content="a", reward=1),
            RewardedResponse(content="", reward=-0.5, ends_turn=False),
        ),
    )
    values = Hyperparameters(learning_rate=1e-5, learning_steps=5, beta=0.04, epsilon=0.2)
    request = JobRequest(groups=(group,), hyperparameters=values)
    assert request.model_dump_json() == OF_FIRST_RELEASE
    assert JobRequest.model_validate_json(OF_FIRST_RELEASE) == request


def test_new_parts_are_written_where_they_are_used() -> None:
    asked, said = Message(role="user", content="?"), Message(role="assistant", content="a")
    values = Hyperparameters(
        learning_rate=1e-5,
        learning_steps=5,
        beta=0.1,
        epsilon=0,
        batch_size=8,
        warmup_ratio=0.1,
        schedule=Schedule.COSINE,
    )
    tools = ({"type": "function", "function": {"name": "f", "parameters": {"default": None}}},)
    not_learned = said.model_copy(update={"is_trained": False, "name": "x"})
    pair = Pair(messages=(asked, not_learned, asked), preferred=(said,), rejected=(said,), tools=tools)
    example = Example(messages=(asked, said), tools=tools, weight=0.5)
    response = RewardedResponse(messages=(said,), reward=1)
    group = Group(messages=(asked,), responses=(response, response), tools=tools)
    for request in (
        JobRequest(method=Method.DPO, pairs=(pair,), hyperparameters=values),
        JobRequest(method=Method.SUPERVISED, examples=(example,), hyperparameters=values),
        JobRequest(groups=(group,), hyperparameters=values),
        JobRequest(
            method=Method.SUPERVISED,
            examples=(example,),
            validation_examples=(example,),
            seed=0,
            keeps_epochs=True,
            hyperparameters=values,
        ),
        JobRequest(method=Method.DPO, pairs=(pair,), validation_pairs=(pair,), hyperparameters=values),
    ):
        assert JobRequest.model_validate_json(request.model_dump_json()) == request


def record_of_job(**fields: object) -> JobRecord:
    common = {"id": "job-1", "user": "alice", "uid": "uid", "model": "m", "base_model": "b", "steps": 3}
    return JobRecord.model_validate({**common, "created": utc_now(), **fields})


def test_job_that_uses_nothing_new_has_only_the_fields_of_before() -> None:
    written = json.loads(record_of_job().model_dump_json())
    assert not written.keys() & {"is_held", "checkpoints", "fine_tuning"}
    assert JobRecord.model_validate(written) == record_of_job(created=written["created"])


def test_job_keeps_its_checkpoints_and_what_it_shows_to_clients_of_openai() -> None:
    shown = FineTuning(
        method="supervised",
        model="base",
        makes_model=True,
        training_file="file-1",
        suffix="mine",
        metadata={"a": "b"},
        seed=7,
        hyperparameters=FineTuningHyperparameters(batch_size=8, learning_rate_multiplier=1, num_epochs=2),
    )
    checkpoint = Checkpoint(revision=4, step=2, created=utc_now(), metrics={"loss": 0.5})
    record = record_of_job(is_held=True, checkpoints=(checkpoint,), fine_tuning=shown)
    assert JobRecord.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("status", JobStatus)
def test_held_job_is_paused_until_it_has_ended(status: JobStatus) -> None:
    shown = record_of_job(status=status, is_held=True).shown_status
    assert shown is (status if status.is_terminal else JobStatus.PAUSED)
    assert record_of_job(status=status).shown_status is status

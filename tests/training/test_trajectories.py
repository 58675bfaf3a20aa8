"""The rows of trajectories, which are responses of several turns."""

from pathlib import Path

import pytest

from registry.records import Group, JobRequest, Message, RewardedResponse
from tests.support.tiny_jobs import tiny_assignment, tiny_resident
from training.worker import job as training_job


def turns(*contents: str) -> tuple[Message, ...]:
    """Turns of the assistant and of the user, one after another."""
    return tuple(
        Message(role=("assistant", "user")[index % 2], content=content)
        for index, content in enumerate(contents)
    )


def request_of(*responses: RewardedResponse) -> JobRequest:
    group = Group(messages=(Message(role="user", content="name_a_colour:"),), responses=responses)
    return JobRequest(groups=(group,), hyperparameters=tiny_assignment().request.hyperparameters)


def test_trajectory_has_the_advantage_of_its_reward_on_the_assistants_tokens(tiny_weights: Path) -> None:
    resident = tiny_resident(tiny_weights)
    request = request_of(
        RewardedResponse(messages=turns("no", "why?", "blue"), reward=1.0),
        RewardedResponse(content="red", reward=0.0),
        RewardedResponse(messages=turns("green"), reward=0.0, ends_turn=False),
    )
    rows = training_job.rows_of(resident, request)
    assert [row.advantage for row in rows] == pytest.approx([1.1545, -0.5772, -0.5772], abs=1e-3)
    decode = resident.tokenizer.decode
    texts = [decode(row.exchange.completion_ids).replace(" ", "") for row in rows]
    assert texts == ["no~why?blue~", "red~", "green"]
    trained = rows[0].exchange.is_trained
    assert trained is not None
    assert trained == [True] * len("no~") + [False] * len("why?") + [True] * len("blue~")
    assert len({tuple(row.exchange.prompt_ids) for row in rows}) == 1

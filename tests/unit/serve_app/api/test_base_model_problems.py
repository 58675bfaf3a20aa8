"""The reason why a base model does not answer is told to everybody, without paths of the machine."""

import pytest

from serve_app.api.base_model_problems import BaseModelProblems, reason_of
from serve_app.resource_waits import Bundle, PendingGroup, ResourceWaits

STARTING = "Upscaling from 0 to 1 replicas."
TRACEBACK = """The deployment failed to start 3 times in a row. See controller logs for details. Error:
Traceback (most recent call last):
  File "/srv/tiger/serve_app/model_server/server.py", line 80, in __init__
    await super().__init__(llm_config)
OSError: /secret/path does not appear to have a file named config.json
"""
OURS = """Traceback (most recent call last):
  File "/srv/tiger/serve_app/model_server/weights_place.py", line 22, in require_weights
serve_app.cannot_start.CannotStart: the directory of its weights is not on its node
RuntimeError: Traceback (most recent call last):
"""


class IdleCluster:
    """A Ray in which nothing waits for resources."""

    def pending_groups(self) -> list[PendingGroup]:
        return []

    def free(self) -> Bundle:
        return {}

    def total(self) -> Bundle:
        return {}


def problems(message: str | Exception | None) -> BaseModelProblems:
    """The problems of a base model about which Serve has this message."""

    def message_of(application: str) -> str | None:
        assert application == "base-model-one"
        if isinstance(message, Exception):
            raise message
        return message

    return BaseModelProblems(ResourceWaits(IdleCluster()), message_of)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (None, ": it is not deployed"),
        (STARTING, ""),
        (RuntimeError("no controller"), ""),
        (TRACEBACK, ": its replica cannot start: OSError; the log of the replica says more"),
        (
            OURS,
            ": its replica cannot start: the directory of its weights is not on its node",
        ),
    ],
)
async def test_reason_is_told_as_far_as_it_is_known(message: str | Exception | None, reason: str) -> None:
    assert await problems(message).of("one") == f"base model one has no replica that answers{reason}"


def test_path_of_the_machine_is_never_told() -> None:
    assert "/" not in (reason_of(TRACEBACK) or "/")

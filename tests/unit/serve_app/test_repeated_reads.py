"""A read of a deployment is repeated if its replica dies, and only then."""

import pytest
from ray.exceptions import RayActorError

from registry.errors import ModelNotFound
from serve_app.repeated_reads import answered


class Replicas:
    """Replicas that are asked one after another. Each raises its error, or answers."""

    def __init__(self, *answers: Exception | str) -> None:
        self._answers = list(answers)

    async def read(self) -> str:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_the_next_replica_is_asked_if_one_dies() -> None:
    assert await answered(Replicas(RayActorError(), RayActorError(), "the answer").read) == "the answer"


async def test_an_error_of_the_deployment_is_an_answer() -> None:
    with pytest.raises(ModelNotFound):
        await answered(Replicas(ModelNotFound("there is no such model"), "the answer").read)

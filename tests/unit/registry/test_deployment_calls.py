"""Calls through a handle: the method and the arguments that arrive. mypy checks what is marked `ignore`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import pytest

from registry.deployment_calls import DeploymentCalls


class Greeter(Protocol):
    """A deployment."""

    async def greet(self, name: str, times: int = 1) -> str: ...

    def greetings(self, name: str) -> AsyncIterator[str]: ...


class Handle:
    """A handle that answers with what it was asked."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def options(self, **options: Any) -> "Handle":
        return Handle(**self._options, **options)

    def __getattr__(self, method: str) -> "Method":
        return Method(lambda *arguments, **named: (self._options, method, arguments, named))

    def broadcast(self, method: str, *arguments: Any) -> "Broadcast":
        return Broadcast(method, *arguments)


class Method:
    def __init__(self, remote: Callable[..., Any]) -> None:
        self.remote = remote


class Broadcast:
    """The answers of two replicas, of which the second fails."""

    def __init__(self, *asked: Any) -> None:
        self._asked = asked

    async def results_async(self, timeout_s: float | None = None, return_exceptions: bool = False) -> Any:
        error = RuntimeError("the replica fails")
        if not return_exceptions:
            raise error
        return [(*self._asked, timeout_s), error]


@pytest.fixture
def calls() -> DeploymentCalls[Greeter]:
    return DeploymentCalls(Handle())


def test_a_call_has_the_name_and_the_arguments_of_its_method(calls: DeploymentCalls[Greeter]) -> None:
    asked: Any = calls.call(Greeter.greet, "Ada", times=2)
    assert asked == ({}, "greet", ("Ada",), {"times": 2})


def test_a_call_of_a_generator_asks_for_a_stream(calls: DeploymentCalls[Greeter]) -> None:
    asked: Any = calls.with_adapter("uid@1").stream(Greeter.greetings, "Ada")
    assert asked == ({"multiplexed_model_id": "uid@1", "stream": True}, "greetings", ("Ada",), {})


async def test_all_replicas_are_called_and_one_that_fails_is_an_error(
    calls: DeploymentCalls[Greeter],
) -> None:
    with pytest.raises(RuntimeError):
        await calls.call_all(Greeter.greet, "Ada")
    answer: Any
    answer, error = await calls.try_all(3.0, Greeter.greet, "Ada")
    assert answer == ("greet", "Ada", 3.0)
    assert isinstance(error, RuntimeError)


def test_mypy_refuses_calls_that_the_deployment_does_not_have(calls: DeploymentCalls[Greeter]) -> None:
    """Each `ignore` below is needed: mypy is told to fail for one that is not."""
    calls.call(Greeter.greet, 5)  # type: ignore[arg-type]
    calls.call(Greeter.greet)  # type: ignore[call-arg]
    calls.call(Greeter.greetings, "Ada")  # type: ignore[arg-type]
    answer: Awaitable[int] = calls.call(Greeter.greet, "Ada")  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        calls.call(Greeter.salute, "Ada")  # type: ignore[attr-defined]
    assert answer

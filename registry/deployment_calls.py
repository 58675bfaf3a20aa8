"""Typed calls of a deployment through its handle.

    client  --DeploymentCalls.call(Catalog.create, ...)-->  handle.create.remote(...)  -->  replica

A handle of Ray Serve finds methods by their names, so mypy could check neither a name nor an argument. Here
the caller gives the method itself, of the deployment's class or of its protocol. mypy then checks the
arguments and knows the type of the answer. This module needs no Ray: it only uses the handle that it gets.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

D = TypeVar("D")
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Answer(Awaitable[R_co], Protocol[R_co]):
    """The answer of one replica: a DeploymentResponse. It can be awaited, or waited for by a thread."""

    def result(self, *, timeout_s: float | None = None) -> R_co: ...


class AnswerStream(AsyncIterable[R_co], Protocol[R_co]):
    """The pieces of an answer: a DeploymentResponseGenerator."""

    def cancel(self) -> None: ...


class DeploymentCalls(Generic[D]):
    """Calls of the methods of `D`, which is the class of the deployment or a protocol that it implements."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def with_adapter(self, adapter_id: str) -> "DeploymentCalls[D]":
        """Returns calls for which Serve prefers the replicas that have this adapter loaded."""
        return DeploymentCalls(self._handle.options(multiplexed_model_id=adapter_id))

    def call(
        self, method: Callable[Concatenate[D, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> Answer[R]:
        """Calls one replica. The call is sent at once, even if nobody waits for the answer."""
        answer: Answer[R] = getattr(self._handle, method.__name__).remote(*args, **kwargs)
        return answer

    def stream(
        self, method: Callable[Concatenate[D, P], AsyncIterator[R]], *args: P.args, **kwargs: P.kwargs
    ) -> AnswerStream[R]:
        """Calls a method of one replica that is a generator. The call is sent at once."""
        streaming = self._handle.options(stream=True)
        pieces: AnswerStream[R] = getattr(streaming, method.__name__).remote(*args, **kwargs)
        return pieces

    async def call_all(
        self, method: Callable[Concatenate[D, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> list[R]:
        """Calls every replica and waits for all of them. Raises the error of a replica."""
        answers: list[R] = await self._handle.broadcast(method.__name__, *args, **kwargs).results_async()
        return answers

    async def try_all(
        self,
        timeout_s: float | None,
        method: Callable[Concatenate[D, P], Awaitable[R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> list[R | BaseException]:
        """Calls every replica, and returns an answer or an error for each. Raises: TimeoutError."""
        broadcast = self._handle.broadcast(method.__name__, *args, **kwargs)
        answers: list[R | BaseException] = await broadcast.results_async(
            timeout_s=timeout_s, return_exceptions=True
        )
        return answers

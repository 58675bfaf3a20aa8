"""The replicas of one base model for their callers, which need to know nothing of vLLM."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Protocol

from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from registry.deployment_calls import AnswerStream, DeploymentCalls
from registry.records import JobRequest
from serve_app.model_server.calls import Generation, GenerationCall, OpenAICall


class ModelReplica(Protocol):
    """The methods of a ModelServer replica that other deployments call. `ModelServer` describes them."""

    async def generate(self, call: GenerationCall) -> Generation: ...

    def generate_stream(self, call: GenerationCall) -> AsyncIterator[str]: ...

    async def openai_answer(self, call: OpenAICall) -> str: ...

    def openai_events(self, call: OpenAICall) -> AsyncIterator[str]: ...

    async def count_training_tokens(
        self, user: str, request: JobRequest, max_tokens: int, is_single: bool
    ) -> int: ...

    async def check_health(self) -> None: ...

    async def preload(self, adapter_id: str) -> None: ...

    async def unload(self, uid: str) -> None: ...

    async def finish_generations(self, epoch: int | None) -> None: ...

    async def lend_gpu(self, epoch: int | None) -> None: ...

    async def take_back_gpu(self, epoch: int | None) -> None: ...

    async def num_waiting_for_gpu(self) -> int: ...

    async def num_generations(self) -> int: ...


class ModelClient:
    """Calls the replicas of one base model: one of them, or all.

    Raises (all): errors of Ray Serve, which `remote_errors.as_tiger_error` turns into our own.
    """

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._replicas: DeploymentCalls[ModelReplica] = DeploymentCalls(handle)

    async def generate(self, call: GenerationCall) -> Generation:
        return await self._for(call).call(ModelReplica.generate, call)

    def generate_stream(self, call: GenerationCall) -> AnswerStream[str]:
        return self._for(call).stream(ModelReplica.generate_stream, call)

    async def openai_answer(self, call: OpenAICall) -> str:
        return await self._for(call).call(ModelReplica.openai_answer, call)

    def openai_events(self, call: OpenAICall) -> AnswerStream[str]:
        return self._for(call).stream(ModelReplica.openai_events, call)

    async def count_training_tokens(
        self, user: str, request: JobRequest, max_tokens: int, is_single: bool
    ) -> int:
        return await self._replicas.call(
            ModelReplica.count_training_tokens, user, request, max_tokens, is_single
        )

    async def check_one(self, timeout_s: float) -> None:
        """Asks one replica, which Serve picks, for its health. Raises: TimeoutError, and its fault."""
        await asyncio.wait_for(self._replicas.call(ModelReplica.check_health), timeout_s)

    async def wait_for_one(self) -> None:
        """Returns when a replica answers. If there is none, Serve starts one for this call."""
        await self._replicas.call(ModelReplica.check_health)

    async def num_healthy(self, timeout_s: float) -> int:
        """Asks all replicas for their health. Raises: TimeoutError, and an error if there is no replica."""
        answers = await self._replicas.try_all(timeout_s, ModelReplica.check_health)
        return sum(not isinstance(answer, BaseException) for answer in answers)

    async def generations_by_replica(self, timeout_s: float) -> list[int | None]:
        """Returns the number of generations in each replica; None for one that reports a fault.

        Raises: TimeoutError, and an error if there is no replica.
        """
        answers = await self._replicas.try_all(timeout_s, ModelReplica.num_generations)
        return [None if isinstance(answer, BaseException) else answer for answer in answers]

    async def preload(self, adapter_id: str) -> None:
        """Loads an adapter in all replicas. Without a replica, the first request will load it."""
        with suppress(DeploymentUnavailableError):
            await self._replicas.call_all(ModelReplica.preload, adapter_id)

    async def unload(self, uid: str) -> None:
        """Frees the adapters of a deleted model in all replicas that can be reached."""
        with suppress(DeploymentUnavailableError):
            await self._replicas.try_all(None, ModelReplica.unload, uid)

    async def finish_generations(self, epoch: int | None) -> None:
        await self._replicas.call_all(ModelReplica.finish_generations, epoch)

    async def lend_gpu(self, epoch: int | None) -> None:
        await self._replicas.call_all(ModelReplica.lend_gpu, epoch)

    async def take_back_gpu(self, epoch: int | None) -> None:
        await self._replicas.call_all(ModelReplica.take_back_gpu, epoch)

    async def num_waiting_for_gpu(self) -> int:
        """Returns the number of requests that wait, in all replicas, because their GPU is lent."""
        return sum(await self._replicas.call_all(ModelReplica.num_waiting_for_gpu))

    def _for(self, call: GenerationCall | OpenAICall) -> DeploymentCalls[ModelReplica]:
        """Returns the replicas for a call. Serve prefers those that have the call's adapter loaded."""
        return self._replicas.with_adapter(call.adapter_id) if call.adapter_id else self._replicas

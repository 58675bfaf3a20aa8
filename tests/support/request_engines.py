"""An engine that behaves as vLLM: outputs of three kinds, abort by id, cancellation."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any

from registry.usage import Usage
from serve_app.model_server import request_engine
from serve_app.model_server.request_engine import RequestEngine

STEP_TOKENS = 100
PROMPT = {"prompt_token_ids": [1, 2, 3]}


class Kind(Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class Params:
    output_kind: Kind = Kind.DELTA
    n: int = 1
    max_tokens: int | None = 4


@dataclass
class Sample:
    index: int
    token_ids: list[int]
    finish_reason: str | None = None
    stop_reason: str | None = None


@dataclass
class Output:
    outputs: list[Sample]
    prompt_token_ids: list[int] = field(default_factory=lambda: [1, 2, 3])
    prompt_logprobs: list[Any] | None = None


class FakeEngine:
    """An engine that makes one token a step for each sample.

    It holds before step `hold_at` until `go_on` is set.
    """

    errored = False

    def __init__(self, hold_at: int | None = None) -> None:
        self.hold_at = hold_at
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()
        self.calls: list[dict[str, Any]] = []
        self.num_generating = 0
        self.error: Exception | None = None
        self.fails_at: int | None = None
        self.stop_reason: str | None = request_engine.SENSELESS
        self.aborted: set[str] = set()
        self.output_processor = SimpleNamespace(external_req_ids={}, request_states={})

    async def abort(self, request_id: str | list[str]) -> None:
        self.aborted |= {request_id} if isinstance(request_id, str) else set(request_id)
        self.go_on.set()

    async def generate(
        self, prompt: Any, sampling_params: Params, request_id: str, **more: Any
    ) -> AsyncGenerator[Output, None]:
        self.calls.append({"request_id": request_id, **more})
        if self.error is not None:
            raise self.error
        self.num_generating += 1
        state = SimpleNamespace(is_prefilling=True)
        self.output_processor.external_req_ids[request_id] = ["0-" + request_id]
        self.output_processor.request_states["0-" + request_id] = state
        try:
            tokens: Counter[int] = Counter()
            for step in range(sampling_params.max_tokens or 9):
                if step == self.hold_at:
                    self.held.set()
                    await self.go_on.wait()
                if self.error is not None:
                    raise self.error
                if request_id in self.aborted:
                    break
                state.is_prefilling = False
                if step == self.fails_at:
                    yield Output([Sample(0, [], "error", self.stop_reason)])
                    return
                for index in range(sampling_params.n):
                    tokens[index] += 1
                    if sampling_params.output_kind == Kind.DELTA:
                        yield Output([Sample(index, [7])])
                    elif sampling_params.output_kind == Kind.CUMULATIVE:
                        yield Output([Sample(index, [7] * tokens[index])])
            if sampling_params.output_kind == Kind.FINAL_ONLY:
                yield Output([Sample(i, [7] * tokens[i]) for i in range(sampling_params.n)])
        finally:
            self.num_generating -= 1


class Counts:
    """A meter that adds up."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, str], Usage] = {}

    def count(self, user: str, model: str, usage: Usage) -> None:
        self.of[user, model] = self.of.get((user, model), Usage()) + usage

    def tokens(self, user: str = "alice") -> tuple[int, int, int]:
        usage = self.of.get((user, "mine"), Usage())
        return usage.requests, usage.input_tokens, usage.output_tokens


Build = Callable[..., RequestEngine]


async def read(outputs: AsyncGenerator[Any, None]) -> list[Output]:
    return [output async for output in outputs]


async def ask(
    engine: RequestEngine, params: Params | None = None, prompt: Any = PROMPT, **more: Any
) -> list[Output]:
    """Make one request from its beginning to its end; returns its outputs."""
    async with engine:
        return await read(engine.generate(prompt, params or Params(), "r", **more))

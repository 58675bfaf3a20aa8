"""TenantEngine over an engine with vLLM's ways: outputs of three kinds, abort by id, cancellation."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest

from registry.errors import ModelUnusable, RateLimited, TigerError
from registry.usage import Usage
from serve_app import tenant_engine
from serve_app.admission import Admission
from serve_app.tenant_engine import TenantEngine

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


class FakeEngine:
    """A token a step for each sample; holds before step `hold_at` until `go_on` is set."""

    errored = False

    def __init__(self, hold_at: int | None = None) -> None:
        self.hold_at = hold_at
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()
        self.calls: list[dict[str, Any]] = []
        self.num_generating = 0
        self.error: Exception | None = None
        self.fails_at: int | None = None
        self.stop_reason: str | None = tenant_engine.SENSELESS
        self._is_aborted = False

    async def abort(self, request_id: str) -> None:
        assert request_id == self.calls[-1]["request_id"]
        self._is_aborted = True
        self.go_on.set()

    async def generate(
        self, prompt: Any, sampling_params: Params, request_id: str, **more: Any
    ) -> AsyncGenerator[Output, None]:
        self.calls.append({"request_id": request_id, **more})
        if self.error is not None:
            raise self.error
        self.num_generating += 1
        try:
            tokens: Counter[int] = Counter()
            for step in range(sampling_params.max_tokens or 9):
                if step == self.hold_at:
                    self.held.set()
                    await self.go_on.wait()
                if self._is_aborted:
                    break
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


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def admission() -> Admission:
    return Admission(num_places=4, max_generations_per_user=8, max_tokens_per_user=1000)


Build = Callable[..., TenantEngine]


@pytest.fixture
def build(counts: Counts, admission: Admission) -> Build:
    def build(engine: FakeEngine, user: str = "alice") -> TenantEngine:
        return TenantEngine(engine, user, "mine", admission, counts)

    return build


async def read(outputs: AsyncGenerator[Any, None]) -> list[Output]:
    return [output async for output in outputs]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("n", [1, 3])
async def test_tokens_are_counted_whatever_the_outputs_repeat(
    build: Build, counts: Counts, admission: Admission, kind: Kind, n: int
) -> None:
    outputs = await read(build(FakeEngine()).generate(PROMPT, Params(kind, n), "r"))
    assert len(outputs) == (1 if kind == Kind.FINAL_ONLY else 4 * n)
    assert counts.tokens() == (1, 3, 4 * n)
    assert admission.num_generations("alice") == 0


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("fails_at", [0, 2])
@pytest.mark.parametrize(("stop_reason", "raised"), [("senseless", ModelUnusable), (None, TigerError)])
async def test_sample_that_the_engine_ends_with_an_error_is_an_error(
    build: Build,
    counts: Counts,
    admission: Admission,
    kind: Kind,
    fails_at: int,
    stop_reason: str | None,
    raised: type[TigerError],
) -> None:
    fake = FakeEngine()
    fake.fails_at, fake.stop_reason = fails_at, stop_reason
    engine = build(fake)
    outputs: list[Output] = []
    with pytest.raises(raised) as error:
        async for output in engine.generate(PROMPT, Params(kind, n=2), "r"):
            outputs.append(output)
    assert type(error.value) is raised and engine.failure is error.value
    assert len(outputs) == (0 if kind == Kind.FINAL_ONLY else 2 * fails_at)
    assert (fake.num_generating, admission.num_generations("alice")) == (0, 0)
    assert counts.tokens()[:2] == (1, 3)


async def test_prompt_that_the_engine_tokenises_is_counted_from_its_outputs(
    build: Build, counts: Counts
) -> None:
    await read(build(FakeEngine()).generate("why", Params(), "r"))
    assert counts.tokens() == (1, 3, 4)


async def test_refusal_comes_before_anything_is_read(build: Build, admission: Admission) -> None:
    engine = FakeEngine()
    kept = admission.admit("alice", 8, 10)
    with pytest.raises(RateLimited):
        build(engine).generate(PROMPT, Params(), "r")
    assert not engine.calls
    kept.release()
    await read(build(engine).generate(PROMPT, Params(), "r"))


async def test_seconds_are_those_in_the_engine(build: Build, counts: Counts) -> None:
    engine = FakeEngine(hold_at=2)
    reading = asyncio.ensure_future(read(build(engine).generate(PROMPT, Params(), "r")))
    await asyncio.sleep(0.1)
    engine.go_on.set()
    await reading
    assert 0.09 < counts.of["alice", "mine"].generation_seconds < 1


async def test_stream_is_counted_while_it_goes_on(
    build: Build, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_engine, "TELL_INTERVAL_S", 0.0)
    engine = FakeEngine(hold_at=2)
    reading = asyncio.ensure_future(read(build(engine).generate(PROMPT, Params(), "r")))
    await engine.held.wait()
    assert counts.tokens() == (1, 3, 2)
    engine.go_on.set()
    await reading


async def test_client_that_closes_a_stream_pays_what_was_generated(
    build: Build, counts: Counts, admission: Admission
) -> None:
    engine = FakeEngine()
    async with aclosing(build(engine).generate(PROMPT, Params(), "r")) as outputs:
        await anext(outputs)
        await anext(outputs)
    assert counts.tokens() == (1, 3, 2)
    assert (engine.num_generating, admission.num_generations("alice")) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "hold_at", "num_tokens"), [(Kind.DELTA, 2, 2), (Kind.DELTA, 0, 0), (Kind.FINAL_ONLY, 2, 4)]
)
async def test_client_that_vanishes_while_waiting_pays_what_was_generated(
    build: Build, counts: Counts, admission: Admission, kind: Kind, hold_at: int, num_tokens: int
) -> None:
    engine = FakeEngine(hold_at)
    n = 2 if kind == Kind.FINAL_ONLY else 1
    reading = asyncio.ensure_future(read(build(engine).generate(PROMPT, Params(kind, n), "r")))
    await engine.held.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert counts.tokens() == (1, 3, num_tokens)
    assert (engine.num_generating, admission.num_generations("alice")) == (0, 0)


async def test_generator_that_nobody_reads_is_released(build: Build, admission: Admission) -> None:
    outputs = build(FakeEngine()).generate(PROMPT, Params(), "r")
    assert admission.num_generations("alice") == 1
    del outputs
    gc.collect()
    await asyncio.sleep(0)
    assert admission.num_generations("alice") == 0


async def test_request_that_the_engine_refuses_costs_nothing(
    build: Build, counts: Counts, admission: Admission
) -> None:
    engine = FakeEngine()
    engine.error = ValueError("no such token")
    with pytest.raises(ValueError, match="no such token"):
        await read(build(engine).generate(PROMPT, Params(), "r"))
    assert counts.of == {}
    assert admission.num_generations("alice") == 0


async def test_client_that_leaves_the_queue_pays_nothing(
    build: Build, counts: Counts, admission: Admission
) -> None:
    engine = FakeEngine(hold_at=0)
    readers = [asyncio.ensure_future(read(build(engine).generate(PROMPT, Params(), "r"))) for _ in range(4)]
    await engine.held.wait()
    assert len(engine.calls) == 3
    readers[3].cancel()
    await asyncio.sleep(0)
    engine.go_on.set()
    await asyncio.gather(*readers, return_exceptions=True)
    assert counts.tokens() == (3, 9, 12)
    assert admission.num_generations("alice") == 0


async def test_priority_is_the_number_of_the_users_other_generations(build: Build) -> None:
    engine = FakeEngine(hold_at=0)
    tenants = [("alice", 1), ("alice", 1), ("bob", 1), ("alice", 3)]
    readers = [
        asyncio.ensure_future(read(build(engine, user).generate(PROMPT, Params(n=n), "r", priority=-5)))
        for user, n in tenants
    ]
    await asyncio.sleep(0)
    engine.go_on.set()
    await asyncio.gather(*readers)
    assert [call["priority"] for call in engine.calls] == [0, 1, 0, 4]


async def test_equal_ids_of_clients_are_different_in_the_engine(build: Build) -> None:
    engine = FakeEngine()
    for user in ("alice", "bob"):
        await read(build(engine, user).generate(PROMPT, Params(), "same"))
    assert len({call["request_id"] for call in engine.calls}) == 2


async def test_everything_else_is_the_engines(build: Build) -> None:
    engine = FakeEngine()
    assert build(engine).errored is False
    with pytest.raises(AttributeError):
        _ = build(engine).no_such_thing

"""TenantEngine on an engine that behaves as vLLM: outputs of three kinds, abort by id, cancellation."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from registry.errors import ModelUnusable, RateLimited, TigerError, Unavailable
from registry.usage import Usage
from serve_app.model_server import running_count, tenant_engine
from serve_app.model_server.admission import Admission
from serve_app.model_server.tenant_engine import TenantEngine

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


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def admission() -> Admission:
    return Admission(
        num_places=5,
        max_generations_per_user=8,
        max_tokens_per_user=1000,
        step_tokens=STEP_TOKENS,
        share_beside=3.0,
    )


Build = Callable[..., TenantEngine]


@pytest.fixture
def build(counts: Counts, admission: Admission) -> Build:
    def build(
        engine: FakeEngine,
        user: str = "alice",
        num_prompts: int = 1,
        num_samples: int = 1,
        num_copies: int = 1,
    ) -> TenantEngine:
        return TenantEngine(engine, user, "mine", admission, counts, num_prompts, num_samples, num_copies)

    return build


async def read(outputs: AsyncGenerator[Any, None]) -> list[Output]:
    return [output async for output in outputs]


async def ask(
    engine: TenantEngine, params: Params | None = None, prompt: Any = PROMPT, **more: Any
) -> list[Output]:
    """One request from its beginning to its end."""
    async with engine:
        return await read(engine.generate(prompt, params or Params(), "r", **more))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("n", [1, 3])
async def test_tokens_are_counted_whatever_the_outputs_repeat(
    build: Build, counts: Counts, admission: Admission, kind: Kind, n: int
) -> None:
    outputs = await ask(build(FakeEngine(), num_samples=n), Params(kind, n))
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
    engine = build(fake, num_samples=2)
    outputs: list[Output] = []
    with pytest.raises(raised) as error:
        async with engine:
            async for output in engine.generate(PROMPT, Params(kind, n=2), "r"):
                outputs.append(output)
    assert type(error.value) is raised and engine.failure is error.value
    assert len(outputs) == (0 if kind == Kind.FINAL_ONLY else 2 * fails_at)
    assert (fake.num_generating, admission.num_generations("alice")) == (0, 0)
    assert counts.tokens()[:2] == (1, 3)


async def test_prompt_that_the_engine_tokenises_is_counted_from_its_outputs(
    build: Build, counts: Counts
) -> None:
    await ask(build(FakeEngine()), prompt="why")
    assert counts.tokens() == (1, 3, 4)


async def test_refusal_comes_before_anything_is_read(build: Build, admission: Admission) -> None:
    engine = FakeEngine()
    (kept,) = admission.admit("alice", 8)
    with pytest.raises(RateLimited):
        await ask(build(engine))
    assert not engine.calls
    kept.release()
    await ask(build(engine))


async def test_prompt_that_may_take_too_many_tokens_gives_the_others_back(
    build: Build, admission: Admission
) -> None:
    engine = FakeEngine()
    with pytest.raises(RateLimited):
        async with build(engine, num_prompts=3) as tenant:
            for max_tokens in (4, 4, 1000):
                tenant.generate(PROMPT, Params(max_tokens=max_tokens), "r")
    assert (engine.calls, admission.num_all_generations) == ([], 0)
    await ask(build(engine))


async def test_tokens_that_are_known_before_are_claimed_before(build: Build) -> None:
    async with build(FakeEngine()) as tenant, build(FakeEngine()) as other:
        tenant.claim(600)
        with pytest.raises(RateLimited):
            other.claim(600)
        await read(tenant.generate(PROMPT, Params(), "r"))
        other.claim(600)


async def test_seconds_are_those_in_the_engine(build: Build, counts: Counts) -> None:
    engine = FakeEngine(hold_at=2)
    reading = asyncio.ensure_future(ask(build(engine)))
    await asyncio.sleep(0.1)
    engine.go_on.set()
    await reading
    assert 0.09 < counts.of["alice", "mine"].generation_seconds < 1


async def test_stream_is_counted_while_it_goes_on(
    build: Build, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_count, "TELL_INTERVAL_S", 0.0)
    engine = FakeEngine(hold_at=2)
    reading = asyncio.ensure_future(ask(build(engine)))
    await engine.held.wait()
    assert counts.tokens() == (1, 3, 2)
    engine.go_on.set()
    await reading


@pytest.mark.parametrize(("kind", "num_outputs"), [(Kind.DELTA, 4), (Kind.FINAL_ONLY, 1)])
async def test_copies_are_generated_once_and_counted_each(
    build: Build, counts: Counts, admission: Admission, kind: Kind, num_outputs: int
) -> None:
    engine = FakeEngine()
    async with build(engine, num_copies=3) as tenant:
        assert admission.num_generations("alice") == 1
        outputs = [output async for output in tenant.generate(PROMPT, Params(kind), "r")]
    assert [[sample.index for sample in output.outputs] for output in outputs] == [[0, 1, 2]] * num_outputs
    assert all(
        sample.token_ids == output.outputs[0].token_ids for output in outputs for sample in output.outputs
    )
    assert (counts.tokens(), len(engine.calls)) == ((1, 3, 12), 1)


class JoiningEngine(FakeEngine):
    """Joins the first output of the second sample with the second one of the first."""

    async def generate(
        self, prompt: Any, sampling_params: Params, request_id: str, **more: Any
    ) -> AsyncGenerator[Output, None]:
        yield Output([Sample(0, [7])], prompt_logprobs=[None, -1.0])
        yield Output([Sample(0, [7]), Sample(1, [7])], prompt_logprobs=[])


async def test_prompt_is_told_with_the_first_output_of_every_sample(build: Build) -> None:
    async with build(JoiningEngine(), num_samples=2) as tenant:
        outputs = [output async for output in tenant.generate(PROMPT, Params(n=2), "r")]
    assert [output.prompt_logprobs for output in outputs] == [[None, -1.0]] * 2


async def test_client_that_closes_a_stream_pays_what_was_generated(
    build: Build, counts: Counts, admission: Admission
) -> None:
    engine = FakeEngine()
    async with build(engine) as tenant, aclosing(tenant.generate(PROMPT, Params(), "r")) as outputs:
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
    reading = asyncio.ensure_future(ask(build(engine, num_samples=n), Params(kind, n)))
    await engine.held.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert counts.tokens() == (1, 3, num_tokens)
    assert (engine.num_generating, admission.num_generations("alice")) == (0, 0)


async def test_generators_that_nobody_reads_are_given_back(build: Build, admission: Admission) -> None:
    engine = FakeEngine()
    async with build(engine, num_prompts=4, num_samples=2) as tenant:
        kept = [tenant.generate(PROMPT, Params(n=2), "r") for _ in range(3)]
        assert admission.num_generations("alice") == 8
    assert admission.num_all_generations == 0
    assert await read(kept[0]) == [] and engine.calls == []


@pytest.mark.parametrize("kind", [Kind.DELTA, Kind.FINAL_ONLY])
@pytest.mark.parametrize("how", ["error", "cancelled"])
async def test_nothing_goes_on_after_the_request_has_ended(
    build: Build, counts: Counts, admission: Admission, kind: Kind, how: str
) -> None:
    """Of four prompts three generate and one waits for its turn; tasks read them, as vLLM's layer has it."""
    engine = FakeEngine(hold_at=2)
    readers: list[Any] = []

    async def request() -> None:
        async with build(engine, num_prompts=4) as tenant:
            outputs = [tenant.generate(PROMPT, Params(kind), "r") for _ in range(4)]
            readers.extend(asyncio.ensure_future(read(each)) for each in outputs)
            await engine.held.wait()
            if how == "error":
                raise ValueError("in the middle")
            await asyncio.sleep(60)

    admission.admit("bob", 1)
    asked = asyncio.ensure_future(request())
    await engine.held.wait()
    if how == "cancelled":
        asked.cancel()
    with pytest.raises(ValueError if how == "error" else asyncio.CancelledError):
        await asked
    assert (admission.num_all_generations, admission.num_generations("alice")) == (1, 0)
    assert (len(engine.calls), engine.num_generating) == (3, 0)
    await asyncio.wait(readers, timeout=5)
    assert all(reader.done() for reader in readers)
    assert counts.tokens() == (3, 9, 6)


async def test_reader_that_stopped_halfway_leaves_nothing(
    build: Build, counts: Counts, admission: Admission
) -> None:
    engine = FakeEngine()
    async with build(engine) as tenant:
        outputs = tenant.generate(PROMPT, Params(), "r")
        await anext(outputs)
    assert (engine.num_generating, admission.num_all_generations) == (0, 0)
    assert counts.tokens() == (1, 3, 1)


async def test_dead_engine_takes_nothing(build: Build, admission: Admission) -> None:
    engine = FakeEngine()
    engine.errored = True
    with pytest.raises(Unavailable):
        await ask(build(engine))
    assert admission.num_all_generations == 0


@pytest.mark.parametrize("kind", Kind)
async def test_engine_that_dies_is_unavailable_to_who_waits(
    build: Build, admission: Admission, kind: Kind
) -> None:
    engine = FakeEngine(hold_at=1)
    tenant = build(engine)
    asked = asyncio.ensure_future(ask(tenant, Params(kind)))
    await engine.held.wait()
    engine.errored, engine.error = True, RuntimeError("EngineCore encountered an issue")
    engine.go_on.set()
    with pytest.raises(Unavailable):
        await asked
    assert isinstance(tenant.failure, Unavailable)
    assert admission.num_all_generations == 0


async def test_error_of_a_dead_engine_outside_of_generation_is_unavailable(build: Build) -> None:
    engine = FakeEngine()
    with pytest.raises(Unavailable):
        async with build(engine):
            engine.errored = True
            raise RuntimeError("the adapter cannot be loaded")


async def test_request_that_the_engine_refuses_costs_nothing(
    build: Build, counts: Counts, admission: Admission
) -> None:
    engine = FakeEngine()
    engine.error = ValueError("no such token")
    with pytest.raises(ValueError, match="no such token"):
        await ask(build(engine))
    assert counts.of == {}
    assert admission.num_generations("alice") == 0


async def test_client_that_leaves_the_queue_pays_nothing(
    build: Build, counts: Counts, admission: Admission
) -> None:
    engine = FakeEngine(hold_at=0)
    readers = [asyncio.ensure_future(ask(build(engine))) for _ in range(4)]
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
        asyncio.ensure_future(ask(build(engine, user, num_samples=n), Params(n=n), priority=-5))
        for user, n in tenants
    ]
    await asyncio.sleep(0)
    engine.go_on.set()
    await asyncio.gather(*readers)
    assert [call["priority"] for call in engine.calls] == [0, 1, 0, 4]


@pytest.mark.parametrize("kind", [Kind.DELTA, Kind.FINAL_ONLY])
async def test_long_prompt_waits_until_the_engine_has_read_the_one_before(build: Build, kind: Kind) -> None:
    engine, other = FakeEngine(hold_at=0), FakeEngine()
    prompt = {"prompt_token_ids": [1] * STEP_TOKENS}
    first = asyncio.ensure_future(ask(build(engine), Params(kind), prompt))
    await engine.held.wait()
    second = asyncio.ensure_future(ask(build(other), Params(kind), prompt))
    await asyncio.sleep(0.01)
    assert other.calls == []
    engine.hold_at = 3
    engine.held.clear()
    engine.go_on.set()
    engine.go_on = asyncio.Event()
    await engine.held.wait()
    await second
    engine.go_on.set()
    await first


@pytest.mark.parametrize("kind", [Kind.DELTA, Kind.FINAL_ONLY])
async def test_a_request_has_begun_while_the_engine_computes_it(build: Build, kind: Kind) -> None:
    """This must not depend on a client that reads its stream slowly, or not at all."""
    engine, begun = FakeEngine(hold_at=0), asyncio.Event()
    tenant_engine = build(engine)
    tenant_engine.on_begun = begun.set
    async with tenant_engine:
        first = asyncio.ensure_future(anext(tenant_engine.generate(PROMPT, Params(kind), "r")))
        await engine.held.wait()
        assert not begun.is_set(), "it waits in the engine"
        engine.hold_at = 3
        engine.go_on.set()
        engine.go_on = asyncio.Event()
        await asyncio.wait_for(begun.wait(), 5)
        assert engine.num_generating == 1
        engine.go_on.set()
        await first


async def test_equal_ids_of_clients_are_different_in_the_engine(build: Build) -> None:
    engine = FakeEngine()
    for user in ("alice", "bob"):
        await ask(build(engine, user))
    assert len({call["request_id"] for call in engine.calls}) == 2


async def test_everything_else_is_the_engines(build: Build) -> None:
    engine = FakeEngine()
    assert build(engine).errored is False
    with pytest.raises(AttributeError):
        _ = build(engine).no_such_thing

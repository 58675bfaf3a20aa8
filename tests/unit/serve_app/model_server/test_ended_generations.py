"""A generation ends before its last token: its client goes away, it fails, or the engine dies."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from registry.errors import Unavailable
from serve_app.model_server.admission import Admission
from tests.support.request_engines import (
    PROMPT,
    Build,
    Counts,
    FakeEngine,
    Kind,
    Params,
    ask,
    read,
)


async def test_client_that_closes_a_stream_pays_what_was_generated(
    build: Build, counts: Counts, admission: Admission
) -> None:
    engine = FakeEngine()
    async with build(engine) as request, aclosing(request.generate(PROMPT, Params(), "r")) as outputs:
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
    async with build(engine, num_prompts=4, num_samples=2) as request:
        kept = [request.generate(PROMPT, Params(n=2), "r") for _ in range(3)]
        assert admission.num_generations("alice") == 8
    assert admission.num_all_generations == 0
    assert await read(kept[0]) == [] and engine.calls == []


@pytest.mark.parametrize("kind", [Kind.DELTA, Kind.FINAL_ONLY])
@pytest.mark.parametrize("how", ["error", "cancelled"])
async def test_nothing_goes_on_after_the_request_has_ended(
    build: Build, counts: Counts, admission: Admission, kind: Kind, how: str
) -> None:
    """Three of the four prompts generate and one waits for its turn. Tasks read them, as in vLLM's layer."""
    engine = FakeEngine(hold_at=2)
    readers: list[Any] = []

    async def request() -> None:
        async with build(engine, num_prompts=4) as own:
            outputs = [own.generate(PROMPT, Params(kind), "r") for _ in range(4)]
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
    async with build(engine) as request:
        outputs = request.generate(PROMPT, Params(), "r")
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
    request = build(engine)
    asked = asyncio.ensure_future(ask(request, Params(kind)))
    await engine.held.wait()
    engine.errored, engine.error = True, RuntimeError("EngineCore encountered an issue")
    engine.go_on.set()
    with pytest.raises(Unavailable):
        await asked
    assert isinstance(request.failure, Unavailable)
    assert admission.num_all_generations == 0


async def test_error_of_a_dead_engine_outside_of_generation_is_unavailable(build: Build) -> None:
    engine = FakeEngine()
    with pytest.raises(Unavailable):
        async with build(engine):
            engine.errored = True
            raise RuntimeError("the adapter cannot be loaded")


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

"""RequestEngine on an engine that behaves as vLLM: tokens are counted, limits hold, turns are taken."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from registry.errors import ModelUnusable, RateLimited, TigerError
from serve_app.model_server import running_count
from serve_app.model_server.admission import Admission
from tests.support.request_engines import (
    PROMPT,
    STEP_TOKENS,
    Build,
    Counts,
    FakeEngine,
    Kind,
    Output,
    Params,
    Sample,
    ask,
    read,
)


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
        async with build(engine, num_prompts=3) as request:
            for max_tokens in (4, 4, 1000):
                request.generate(PROMPT, Params(max_tokens=max_tokens), "r")
    assert (engine.calls, admission.num_all_generations) == ([], 0)
    await ask(build(engine))


async def test_tokens_that_are_known_before_are_claimed_before(build: Build) -> None:
    async with build(FakeEngine()) as request, build(FakeEngine()) as other:
        request.claim(600)
        with pytest.raises(RateLimited):
            other.claim(600)
        await read(request.generate(PROMPT, Params(), "r"))
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
    async with build(engine, num_copies=3) as request:
        assert admission.num_generations("alice") == 1
        outputs = [output async for output in request.generate(PROMPT, Params(kind), "r")]
    assert [[sample.index for sample in output.outputs] for output in outputs] == [[0, 1, 2]] * num_outputs
    assert all(
        sample.token_ids == output.outputs[0].token_ids for output in outputs for sample in output.outputs
    )
    assert (counts.tokens(), len(engine.calls)) == ((1, 3, 12), 1)


class JoiningEngine(FakeEngine):
    """An engine that joins the first output of the second sample with the second output of the first."""

    async def generate(
        self, prompt: Any, sampling_params: Params, request_id: str, **more: Any
    ) -> AsyncGenerator[Output, None]:
        yield Output([Sample(0, [7])], prompt_logprobs=[None, -1.0])
        yield Output([Sample(0, [7]), Sample(1, [7])], prompt_logprobs=[])


async def test_prompt_is_told_with_the_first_output_of_every_sample(build: Build) -> None:
    async with build(JoiningEngine(), num_samples=2) as request:
        outputs = [output async for output in request.generate(PROMPT, Params(n=2), "r")]
    assert [output.prompt_logprobs for output in outputs] == [[None, -1.0]] * 2


async def test_request_that_the_engine_refuses_costs_nothing(
    build: Build, counts: Counts, admission: Admission
) -> None:
    engine = FakeEngine()
    engine.error = ValueError("no such token")
    with pytest.raises(ValueError, match="no such token"):
        await ask(build(engine))
    assert counts.of == {}
    assert admission.num_generations("alice") == 0


async def test_priority_is_the_number_of_the_users_other_generations(build: Build) -> None:
    engine = FakeEngine(hold_at=0)
    requests = [("alice", 1), ("alice", 1), ("bob", 1), ("alice", 3)]
    readers = [
        asyncio.ensure_future(ask(build(engine, user, num_samples=n), Params(n=n), priority=-5))
        for user, n in requests
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
    request_engine = build(engine)
    request_engine.on_begun = begun.set
    async with request_engine:
        first = asyncio.ensure_future(anext(request_engine.generate(PROMPT, Params(kind), "r")))
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

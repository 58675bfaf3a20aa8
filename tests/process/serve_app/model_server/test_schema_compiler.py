"""The order in which users' schemas are compiled, and the end of those that wait."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from registry.errors import RateLimited, Unavailable
from serve_app.model_server.schema_compiler import MAX_WAITING_PER_USER, SchemaCompiler, WorkerProcess
from serve_app.model_server.schema_worker import TOO_LARGE, Reply, TokenizerText
from tests.support.schemas import chain


class StubWorker:
    """A worker that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.is_stopped = asyncio.Event()
        self.is_broken = False
        self._may_answer = asyncio.Semaphore(0)

    def answer(self, number: int = 1) -> None:
        for _ in range(number):
            self._may_answer.release()

    async def ask(self, schemas: Sequence[str]) -> Reply:
        self.asked.append(tuple(schemas))
        await self._may_answer.acquire()
        if self.is_broken:
            raise Unavailable("schemas cannot be compiled at the moment; try again")
        return Reply(seconds=len(self.asked))

    async def stop(self) -> None:
        self.is_stopped.set()


@pytest.fixture
def worker() -> StubWorker:
    return StubWorker()


@pytest.fixture
async def compiler(worker: StubWorker) -> AsyncIterator[SchemaCompiler]:
    compiler = SchemaCompiler(worker)
    compiler.start()
    yield compiler
    await compiler.stop()


async def settle() -> None:
    """Let all tasks run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_users_take_turns(compiler: SchemaCompiler, worker: StubWorker) -> None:
    asked = [asyncio.create_task(compiler.check("greedy", [f"g{i}"])) for i in range(4)]
    await settle()
    asked += [asyncio.create_task(compiler.check("light", [f"l{i}"])) for i in range(2)]
    await settle()
    worker.answer(6)
    await asyncio.gather(*asked)
    assert [schema for (schema,) in worker.asked] == ["g0", "g1", "l0", "g2", "l1", "g3"]


async def test_what_is_known_is_not_compiled_again(compiler: SchemaCompiler, worker: StubWorker) -> None:
    """This holds for one user only, because a short time must not tell of another user's schema."""
    worker.answer(3)
    first = await compiler.check("alice", ["a", "b"])
    assert await compiler.check("alice", ["a", "b"]) == first
    assert await compiler.check("bob", ["a", "b"]) != first
    assert await compiler.check("alice", ["ab"]) != first
    assert worker.asked == [("a", "b"), ("a", "b"), ("ab",)]


async def test_same_schema_at_once_is_compiled_once(compiler: SchemaCompiler, worker: StubWorker) -> None:
    asked = [asyncio.create_task(compiler.check("alice", ["a"])) for _ in range(100)]
    await settle()
    worker.answer()
    assert len(set(await asyncio.gather(*asked))) == 1
    assert worker.asked == [("a",)]


async def test_one_user_has_so_many_waiting(compiler: SchemaCompiler, worker: StubWorker) -> None:
    asked = [asyncio.create_task(compiler.check("greedy", ["being compiled"]))]
    await settle()
    asked += [asyncio.create_task(compiler.check("greedy", [str(i)])) for i in range(MAX_WAITING_PER_USER)]
    await settle()
    with pytest.raises(RateLimited):
        await compiler.check("greedy", ["one too many"])
    light = asyncio.create_task(compiler.check("light", ["a"]))
    await settle()
    worker.answer(len(asked) + 1)
    await asyncio.gather(light, *asked)


async def test_who_goes_away_ends_nobody_elses_wait(compiler: SchemaCompiler, worker: StubWorker) -> None:
    first, second = (asyncio.create_task(compiler.check("alice", ["a"])) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    worker.answer()
    assert (await second).error is None
    assert first.cancelled()


async def test_broken_worker_is_tried_again(compiler: SchemaCompiler, worker: StubWorker) -> None:
    worker.is_broken = True
    worker.answer()
    with pytest.raises(Unavailable):
        await compiler.check("alice", ["a"])
    worker.is_broken = False
    worker.answer()
    assert (await compiler.check("alice", ["a"])).error is None


async def test_nobody_waits_for_a_replica_that_stops(worker: StubWorker) -> None:
    compiler = SchemaCompiler(worker)
    compiler.start()
    asked = [asyncio.create_task(compiler.check("alice", [str(i)])) for i in range(3)]
    await settle()
    await compiler.stop()
    for task in asked:
        with pytest.raises(Unavailable):
            await task


async def test_idle_worker_is_stopped(worker: StubWorker) -> None:
    compiler = SchemaCompiler(worker, idle_s=0.01)
    compiler.start()
    await worker.is_stopped.wait()
    worker.answer()
    assert (await compiler.check("alice", ["a"])).error is None
    await compiler.stop()


@pytest.fixture(scope="module")
def tokenizer_text(smollm2_weights: Path) -> TokenizerText:
    text = (smollm2_weights / "tokenizer.json").read_text()
    return TokenizerText(json_text=text, num_tokens=49_152, end_token=2)


async def test_process_outlives_what_it_compiles(tokenizer_text: TokenizerText) -> None:
    process = WorkerProcess(tokenizer_text)
    try:
        assert (await process.ask(['{"type":"object"}'])).error is None
        assert (await process.ask([json.dumps(chain(3_000))])).error == TOO_LARGE
        assert (await process.ask(['{"type":"integer"}'])).error is None
        killed = process.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        with suppress(Unavailable):  # unless its end was noticed before
            await process.ask(['{"type":"integer"}'])
        assert (await process.ask(['{"type":"integer"}'])).error is None
        assert process.pid not in (None, killed)
    finally:
        await process.stop()
    assert process.pid is None

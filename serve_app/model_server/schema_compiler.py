"""Compiles JSON Schemas for a replica in a separate process. The users take turns.

    check  ->  known already, or being compiled  ->  else the user's queue  ->  the worker process, in turn

The process (model_server.schema_worker) starts with the first schema, and ends if there are none for a while.
Results are remembered per user, so that the time for a schema does not reveal that another user has sent it.
"""

import asyncio
import hashlib
import sys
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from cachetools import LRUCache

from registry.errors import RateLimited, Unavailable
from serve_app.model_server.schema_worker import MAX_WALL_S, Question, Reply, TokenizerText

MAX_WAITING_PER_USER = 64
NUM_KEPT = 4_096
IDLE_S = 300.0
START_TIMEOUT_S = 60.0
"""The time that the process may need to read a tokenizer on a busy machine."""


class Worker(Protocol):
    """A worker that compiles schemas, one question at a time. Raises: Unavailable."""

    async def ask(self, schemas: Sequence[str]) -> Reply: ...

    async def stop(self) -> None: ...


class SchemaCompiler:
    def __init__(self, worker: Worker, idle_s: float = IDLE_S) -> None:
        self._worker = worker
        self._idle_s = idle_s
        self._known: LRUCache[str, Reply] = LRUCache(NUM_KEPT)
        self._asked: dict[str, asyncio.Future[Reply]] = {}
        self._waiting: OrderedDict[str, deque[tuple[str, tuple[str, ...]]]] = OrderedDict()
        self._wanted = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the queue. It must not be called in a request, whose end would end the work for all."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        for asked in self._asked.values():
            asked.set_exception(Unavailable("this replica is stopping; try again"))
        self._asked.clear()
        await self._worker.stop()

    async def check(self, user: str, schemas: Sequence[str]) -> Reply:
        """Compiles the schemas, or returns a remembered result. Raises: RateLimited, Unavailable."""
        key = _key(user, schemas)
        known = self._known.get(key)
        if known is not None:
            return known
        if key not in self._asked:
            queue = self._waiting.setdefault(user, deque())
            if len(queue) >= MAX_WAITING_PER_USER:
                raise RateLimited("too many schemas of yours are waiting to be compiled; try again")
            self._asked[key] = asyncio.get_running_loop().create_future()
            queue.append((key, tuple(schemas)))
            self._wanted.set()
        return await asyncio.shield(self._asked[key])

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._wanted.wait(), self._idle_s)
            except TimeoutError:
                await self._worker.stop()
                await self._wanted.wait()
            key, schemas = self._next()
            try:
                reply = await self._worker.ask(schemas)
            except Unavailable as error:
                asked = self._asked.pop(key)
                asked.set_exception(error)
                asked.exception()  # marks the error as seen, as the caller may have gone away
            else:
                self._known[key] = reply
                self._asked.pop(key).set_result(reply)

    def _next(self) -> tuple[str, tuple[str, ...]]:
        """Returns the oldest question of the user whose turn it is. The user's next turn is the last one."""
        user, queue = self._waiting.popitem(last=False)
        job = queue.popleft()
        if queue:
            self._waiting[user] = queue
        if not self._waiting:
            self._wanted.clear()
        return job


def _key(user: str, schemas: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in (user, *schemas):
        digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()


class WorkerProcess:
    """The worker process. The first question starts it, and a new one replaces one that ended or hangs."""

    def __init__(self, tokenizer: TokenizerText) -> None:
        self._tokenizer = tokenizer
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def ask(self, schemas: Sequence[str]) -> Reply:
        question = Question(schemas=tuple(schemas)).model_dump_json()
        timeout_s = 2 * MAX_WALL_S
        try:
            if self._process is None or self._process.returncode is not None:
                timeout_s += START_TIMEOUT_S
                await self._start()
            return await asyncio.wait_for(self._exchange(question), timeout_s)
        except (TimeoutError, OSError, ValueError):
            await self.stop()
            raise Unavailable("schemas cannot be compiled at the moment; try again") from None

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "serve_app.model_server.schema_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # llguidance may print what is in a schema
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self._tokenizer.model_dump_json().encode() + b"\n")

    async def _exchange(self, question: str) -> Reply:
        assert self._process is not None
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(question.encode() + b"\n")
        await self._process.stdin.drain()
        return Reply.model_validate_json(await self._process.stdout.readline())

    async def stop(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

"""Loads and frees the adapters of one replica.

    bucket --fetch--> disk --add_lora--> vLLM --probe--> ready     Serve's multiplexing keeps some (LRU)
    lease counts > 0: running requests keep an evicted adapter alive until the last one has finished

Every load has its own directory, name and vLLM integer id, which are never used again. A reload of an adapter
therefore cannot use remains of an earlier load. vLLM treats adapters with the same name as the same adapter:
two of them in one batch, such as an evicted one that still generates and its reload, would end the engine.

A revision is checked and tried at its first load here (model_server.adapter_check). The replica remembers
revisions that cannot be used, and refuses them without another download.
"""

import asyncio
import itertools
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from cachetools import LRUCache

from registry.errors import ModelUnusable, Unavailable
from registry.revisions import DigestMismatch, Revisions
from registry.tasks import BackgroundTasks
from serve_app.model_server.request_engine import UNUSABLE

logger = logging.getLogger("ray.serve")

MAX_VERDICTS = 10_000


class LoraEngine(Protocol):
    """The two calls of vLLM's AsyncLLM that concern adapters."""

    async def add_lora(self, lora_request: Any) -> bool: ...

    async def remove_lora(self, lora_id: int) -> bool: ...


class AdapterMetrics(Protocol):
    """The numbers of adapters. An implementation only counts, and does not raise."""

    def loaded(self, is_usable: bool, seconds: float) -> None:
        """Reports a load that took `seconds` after the download; it failed if the adapter is not usable."""

    def evicted(self) -> None:
        """Reports an adapter that takes no new requests any more."""


class Adapter:
    """One load of one revision's adapter into the engine."""

    def __init__(self, adapter_id: str, directory: Path, request: Any, owner: "Adapters") -> None:
        self.adapter_id = adapter_id
        self.directory = directory
        self.request = request
        self.is_freed = False
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._num_leases = 0
        self._is_evicted = False

    def __del__(self) -> None:
        """Evicts the adapter. Serve calls this from another thread when its LRU drops the adapter."""
        if not self.is_freed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.evict)

    def evict(self) -> None:
        """Takes no new requests from now on, and frees the adapter when the last running one has finished."""
        self._is_evicted = True
        self._owner.forget(self)
        self._free_when_unused()

    def lease(self) -> None:
        self._num_leases += 1

    def release(self) -> None:
        self._num_leases -= 1
        self._free_when_unused()

    def _free_when_unused(self) -> None:
        if self._is_evicted and self._num_leases == 0 and not self.is_freed:
            self.is_freed = True
            self._owner.free(self)


class Adapters:
    """The adapters of one replica, named `<uid>@<revision>`.

    `build_request(name, lora_id, path)` makes vLLM's LoRARequest. It is an argument so that this module does
    not import vLLM. `check` checks the files of an adapter, and `probe` tries a loaded adapter. Both raise
    ModelUnusable.
    """

    def __init__(
        self,
        revisions: Revisions,
        engine: Callable[[], LoraEngine],
        build_request: Callable[[str, int, str], Any],
        check: Callable[[Path], None],
        probe: Callable[[Any], Awaitable[None]],
        metrics: AdapterMetrics,
        directory: Path | None = None,
    ) -> None:
        self._revisions = revisions
        self._engine = engine
        self._build_request = build_request
        self._check = check
        self._probe = probe
        self._metrics = metrics
        self._verdicts: LRUCache[str, bool] = LRUCache(MAX_VERDICTS)  # by revision; revisions never change
        self._directory = directory or Path(tempfile.mkdtemp(prefix="tiger-adapters-"))
        self._lora_ids = itertools.count(1)
        self._fetches: dict[str, asyncio.Task[Path]] = {}
        self._loaded: dict[str, Adapter] = {}
        self._background = BackgroundTasks()

    def is_loaded(self, adapter_id: str) -> bool:
        return adapter_id in self._loaded

    def evict_model(self, uid: str) -> None:
        for adapter in list(self._loaded.values()):
            if adapter.adapter_id.startswith(f"{uid}@"):
                adapter.evict()

    def forget(self, adapter: Adapter) -> None:
        if self._loaded.get(adapter.adapter_id) is adapter:
            del self._loaded[adapter.adapter_id]
            self._metrics.evicted()

    async def fetch(self, adapter_id: str) -> Path:
        """Downloads an adapter to disk. Callers of one adapter share one download.

        A caller that goes away does not stop the download of the others.

        Raises: RevisionNotFound, ModelUnusable, Unavailable.
        """
        if self._verdicts.get(adapter_id) is False:
            raise ModelUnusable(UNUSABLE, "model")
        task = self._fetches.get(adapter_id)
        if task is None:
            task = asyncio.ensure_future(self._fetch(adapter_id))
            self._fetches[adapter_id] = task
            task.add_done_callback(lambda done: self._forget_failure(adapter_id, done))
        return await asyncio.shield(task)

    async def load(self, adapter_id: str) -> Adapter:
        """Loads an adapter into the engine. Raises: RevisionNotFound, ModelUnusable, Unavailable."""
        directory = await self.fetch(adapter_id)
        lora_id = next(self._lora_ids)
        request = self._build_request(f"{adapter_id}#{lora_id}", lora_id, str(directory))
        begin_s = time.monotonic()
        try:
            await self._bring_in(adapter_id, directory, request)
        except BaseException as error:
            if isinstance(error, Exception):
                self._metrics.loaded(False, time.monotonic() - begin_s)
            if isinstance(error, ModelUnusable):
                self._verdicts[adapter_id] = False
                logger.warning("adapter %s is refused: %s", adapter_id, error.__cause__ or "its logits")
            message = f"removed the failed load of adapter {adapter_id}"
            self._background.start(self._remove(request, directory, message))
            raise
        finally:
            # This comes last, so that a request during the load does not download the adapter again.
            self._fetches.pop(adapter_id, None)
        self._metrics.loaded(True, time.monotonic() - begin_s)
        adapter = Adapter(adapter_id, directory, request, self)
        self._loaded[adapter_id] = adapter
        return adapter

    async def _bring_in(self, adapter_id: str, directory: Path, request: Any) -> None:
        is_known = self._verdicts.get(adapter_id) is True
        if not is_known:
            await asyncio.to_thread(self._check, directory)
        await self._engine().add_lora(request)
        if not is_known:
            await self._probe(request)
            self._verdicts[adapter_id] = True

    async def _fetch(self, adapter_id: str) -> Path:
        uid, _, revision = adapter_id.partition("@")
        parent = Path(tempfile.mkdtemp(prefix=f"{uid}-{revision}-", dir=self._directory))
        directory = parent / "adapter"
        try:
            await asyncio.to_thread(self._revisions.fetch, uid, int(revision), directory)
        except BaseException as error:
            await asyncio.to_thread(shutil.rmtree, parent, ignore_errors=True)
            if isinstance(error, DigestMismatch):
                logger.error("adapter %s: %s", adapter_id, error)
                raise Unavailable("the weights of this revision cannot be read") from None
            raise
        return directory

    def _forget_failure(self, adapter_id: str, task: "asyncio.Task[Path]") -> None:
        if task.cancelled() or task.exception() is not None:
            self._fetches.pop(adapter_id, None)

    def free(self, adapter: Adapter) -> None:
        message = f"freed adapter {adapter.adapter_id}"
        self._background.start(self._remove(adapter.request, adapter.directory, message))

    async def _remove(self, request: Any, directory: Path, message: str) -> None:
        """Removes an adapter from the engine and from disk, even if the engine did not load all of it."""
        try:
            await self._engine().remove_lora(request.lora_int_id)
        finally:
            await asyncio.to_thread(shutil.rmtree, directory.parent, ignore_errors=True)
        logger.info("%s", message)


@asynccontextmanager
async def leased(adapter: Adapter | None) -> AsyncIterator[Any | None]:
    """Yields the engine's request for `adapter` and keeps it alive inside the block; None: the base model."""
    if adapter is None:
        yield None
        return
    adapter.lease()
    try:
        yield adapter.request
    finally:
        adapter.release()

"""A fake of an engine that loads adapters, and revisions that count their downloads."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from registry.errors import ModelUnusable
from registry.records import Manifest
from registry.revisions import Revisions
from registry.store import ObjectStore


@dataclass(frozen=True)
class Request:
    name: str
    lora_int_id: int
    path: Path


class Engine:
    """An engine whose `add` waits while `is_open` is not set.

    While `is_sound` is not set, adapters fail the probe.
    """

    def __init__(self) -> None:
        self.is_sound = True
        self.num_checks = 0
        self.probed: list[Request] = []
        self.added: list[Request] = []
        self.removed: list[int] = []
        self.is_broken = False
        self.is_adding = asyncio.Event()
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def add_lora(self, lora_request: Request) -> bool:
        self.is_adding.set()
        await self.is_open.wait()
        if self.is_broken:
            raise RuntimeError("out of memory")
        assert (lora_request.path / "adapter_model.safetensors").exists()
        self.added.append(lora_request)
        return True

    def check(self, directory: Path) -> None:
        self.num_checks += 1
        if (directory / "adapter_model.safetensors").read_bytes() == b"bad":
            raise ModelUnusable("it cannot be used", "model")

    async def probe(self, request: Request) -> None:
        assert request in self.added
        self.probed.append(request)
        if not self.is_sound:
            raise ModelUnusable("it cannot be used", "model")

    async def remove_lora(self, lora_id: int) -> bool:
        self.removed.append(lora_id)
        return True


class CountingRevisions(Revisions):
    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.num_fetches = 0

    def fetch(self, uid: str, revision: int, directory: Path) -> Manifest:
        self.num_fetches += 1
        return super().fetch(uid, revision, directory)


class NotedLoads:
    """An AdapterMetrics that keeps the numbers that it is told."""

    def __init__(self) -> None:
        self.loads: list[bool] = []
        self.num_evicted = 0

    def loaded(self, is_usable: bool, seconds: float) -> None:
        assert seconds >= 0
        self.loads.append(is_usable)

    def evicted(self) -> None:
        self.num_evicted += 1

"""`GET /v1/models` without making it anew: a user's models as JSON lines, kept by every ingress replica.

    ingress: version that it has  ->  Catalog: nothing, or the newer version and its lines

The Catalog is asked each time, so that a change is seen at once; what it sends and the ingress writes is made
only when something has changed. The lines joined by commas are the array: JSON has no line ends in strings.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from cachetools import LRUCache

from serve_app.schemas import ModelInfo
from serve_app.settings import BaseModelSettings, Settings

MAX_BYTES = 2**25
ENTRY_BYTES = 500
"""About what keeping a listing takes beside its lines: users without models fill memory too."""


@dataclass(frozen=True, slots=True)
class Listing:
    """`version` is the same for the same models."""

    version: str
    lines: bytes


def base_models(settings: Settings) -> list[BaseModelSettings]:
    """In configured order, the default first."""
    return sorted(settings.models, key=lambda model: model.id != settings.default_model)


def base_infos(settings: Settings) -> list[ModelInfo]:
    return [ModelInfo.of_base(model, model.id == settings.default_model) for model in base_models(settings)]


def as_lines(infos: Iterable[ModelInfo]) -> bytes:
    """A JSON object a line, each with its end of line."""
    return "".join(info.model_dump_json(exclude_none=True) + "\n" for info in infos).encode()


def as_array(lines: bytes) -> bytes:
    return b"[" + lines.rstrip(b"\n").replace(b"\n", b",") + b"]"


class Listings:
    """`base` are the lines of the base models, `ask` is `Catalog.listing`. What it raises comes through."""

    def __init__(
        self,
        base: bytes,
        ask: Callable[[str, str | None], Awaitable[Listing | None]],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._base = base
        self._ask = ask
        self._max_bytes = max_bytes
        self._kept: LRUCache[str, Listing] = LRUCache(max_bytes, getsizeof=_size_bytes)

    async def lines(self, user: str) -> bytes:
        """Of all models that the user may use: base models, then private ones, oldest first."""
        kept = self._kept.get(user)
        newer = await self._ask(user, kept.version if kept is not None else None)
        if newer is None:
            return self._base + (kept.lines if kept is not None else b"")
        if _size_bytes(newer) <= self._max_bytes:
            self._kept[user] = newer
        return self._base + newer.lines


def _size_bytes(listing: Listing) -> int:
    return ENTRY_BYTES + len(listing.lines)

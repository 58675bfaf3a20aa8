"""Which ingress replicas keep whose models in memory, and how they forget them before anything changes.

    ingress replica   --renew: what I forgot-->   Leases, in the Catalog
                      <--whom to forget--------   at once when a change comes, else after POLL_S

A replica with a lease answers reads from memory, without a call. A change begins when every replica that
keeps the user's models has said that it forgot them, or its lease has run out; so no read that begins after a
change was answered, or after another read has seen it, gives what was before. (C. Gray and D. Cheriton,
"Leases", SOSP 1989.) A Catalog changes nothing in the first term of its life: leases of the one before it may
still run.

A replica counts its lease from when it asked for it, the Catalog from when it was asked, each by its own
clock, so that the replica's ends first.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from registry.records import generate_uid

TERM_S = 3.0
POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """All that the Catalog's process `session` withdrew up to `number`; at first, nothing of none."""

    session: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lease for another term. `withdrawn` is for when the users are forgotten, to be said at once."""

    withdrawn: Forgotten
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadModels:
    """A user's `UserModels` as JSON; `session`: of the lease under which they may be kept."""

    json: bytes
    session: str | None


@dataclass(slots=True)
class Holder:
    """A replica, whose lease runs until `until_s`; `forgetting` are users by number, till it forgot them."""

    until_s: float
    keeps: set[str] = field(default_factory=set)
    forgetting: dict[int, str] = field(default_factory=dict)
    has_news: asyncio.Event = field(default_factory=asyncio.Event)
    has_answered: asyncio.Event = field(default_factory=asyncio.Event)

    def withdraw(self, user: str, number: int) -> None:
        self.keeps.discard(user)
        self.forgetting[number] = user
        self.has_news.set()

    def forgot(self, up_to: int) -> None:
        self.forgetting = {number: user for number, user in self.forgetting.items() if number > up_to}
        if not self.forgetting:
            self.has_news.clear()
        self.has_answered.set()


class Leases:
    """With a term of 0 s nobody is ever given one. `clock` is in seconds from anywhere."""

    def __init__(self, term_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._term_s = term_s
        self._clock = clock
        self._first_change_s = clock() + term_s
        self._session = generate_uid()
        self._number = 0
        self._holders: dict[str, Holder] = {}
        self._changing: set[str] = set()

    async def renew(self, replica: str, forgotten: Forgotten) -> Renewal:
        """A lease for another term: at once when there is something to forget, else in POLL_S."""
        now_s = self._clock()
        self._holders = {name: other for name, other in self._holders.items() if other.until_s > now_s}
        holder = self._holders.setdefault(replica, Holder(now_s))
        holder.until_s = now_s + self._term_s
        holder.forgot(forgotten.number if forgotten.session == self._session else 0)
        await _wait(holder.has_news, POLL_S)
        withdrawn = Forgotten(self._session, max(holder.forgetting, default=self._number))
        return Renewal(withdrawn, tuple(holder.forgetting.values()))

    def allow(self, replica: str, user: str) -> str | None:
        """Let a replica keep the user's models, and remember that; the session, or None: it must not."""
        holder = self._holders.get(replica)
        if holder is None or holder.until_s <= self._clock() or user in self._changing:
            return None
        holder.keeps.add(user)
        return self._session

    @asynccontextmanager
    async def withdrawn(self, user: str) -> AsyncIterator[None]:
        """Within, no replica keeps the user's models. One at a time for a user."""
        self._changing.add(user)
        try:
            await asyncio.sleep(max(0.0, self._first_change_s - self._clock()))
            await asyncio.gather(*(self._withdraw(user, holder) for holder in self._holders.values()))
            yield
        finally:
            self._changing.discard(user)

    async def _withdraw(self, user: str, holder: Holder) -> None:
        """Returns when the replica forgot the user's models, or its lease has run out."""
        if user not in holder.keeps:
            return
        self._number = number = self._number + 1
        holder.withdraw(user, number)
        while number in holder.forgetting and (left_s := holder.until_s - self._clock()) > 0:
            holder.has_answered.clear()
            await _wait(holder.has_answered, left_s)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Until it is set or the time is over."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)

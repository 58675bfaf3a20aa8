"""Leases: ingress replicas cache users' models, and forget them before anything changes.

    ingress replica   --renew: what I forgot-->   Leases, in the Catalog
                      <--whom to forget--------   at once when a change comes, else after POLL_S

A replica with a lease answers reads from memory, without a call. A change of a user's models begins when
every replica that keeps them has confirmed that it forgot them, or its lease has ended. Therefore a read
never returns an old state if it begins after the change was answered, or after another read has returned the
new state. (C. Gray and D. Cheriton, "Leases", SOSP 1989.) A new Catalog changes nothing in its first term,
because leases of the previous Catalog may still be valid.

A replica measures its lease from the time of its request, the Catalog from the arrival of the request. Each
uses its own clock, so the lease ends first at the replica.
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
    """A confirmation: the replica forgot all that the Catalog's process `session` withdrew up to `number`.

    The default value confirms nothing.
    """

    session: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lease for another term.

    The replica forgets `users` and then sends `withdrawn` back at once, as its confirmation.
    """

    withdrawn: Forgotten
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadModels:
    """A user's `UserModels` as JSON.

    They may be kept under a lease of the Catalog's process `session`; None: they must not be kept.
    """

    json: bytes
    session: str | None


@dataclass(slots=True)
class Holder:
    """A replica whose lease ends at `until_s`.

    `keeps` has the users whose models it may keep. `forgetting` has the users, by number, whose models it was
    told to forget and has not confirmed.
    """

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
    """The leases of all ingress replicas. With a term of 0 s there are no leases.

    `clock` returns seconds since an arbitrary start.
    """

    def __init__(self, term_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._term_s = term_s
        self._clock = clock
        self._first_change_s = clock() + term_s
        self._session = generate_uid()
        self._number = 0
        self._holders: dict[str, Holder] = {}
        self._changing: set[str] = set()

    async def renew(self, replica: str, forgotten: Forgotten) -> Renewal:
        """Returns a lease for another term: at once if there is something to forget, else after POLL_S."""
        now_s = self._clock()
        self._holders = {name: other for name, other in self._holders.items() if other.until_s > now_s}
        holder = self._holders.setdefault(replica, Holder(now_s))
        holder.until_s = now_s + self._term_s
        holder.forgot(forgotten.number if forgotten.session == self._session else 0)
        await _wait(holder.has_news, POLL_S)
        withdrawn = Forgotten(self._session, max(holder.forgetting, default=self._number))
        return Renewal(withdrawn, tuple(holder.forgetting.values()))

    def allow(self, replica: str, user: str) -> str | None:
        """Lets a replica keep the user's models, and remembers that.

        Returns the session. Returns None if the replica must not keep them.
        """
        holder = self._holders.get(replica)
        if holder is None or holder.until_s <= self._clock() or user in self._changing:
            return None
        holder.keeps.add(user)
        return self._session

    @asynccontextmanager
    async def withdrawn(self, user: str) -> AsyncIterator[None]:
        """Inside this context, no replica keeps the user's models. A user has at most one such context."""
        self._changing.add(user)
        try:
            await asyncio.sleep(max(0.0, self._first_change_s - self._clock()))
            await asyncio.gather(*(self._withdraw(user, holder) for holder in self._holders.values()))
            yield
        finally:
            self._changing.discard(user)

    async def _withdraw(self, user: str, holder: Holder) -> None:
        """Returns when the replica has forgotten the user's models, or its lease has ended."""
        if user not in holder.keeps:
            return
        self._number = number = self._number + 1
        holder.withdraw(user, number)
        while number in holder.forgetting and (left_s := holder.until_s - self._clock()) > 0:
            holder.has_answered.clear()
            await _wait(holder.has_answered, left_s)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Returns when the event is set, or after `timeout_s`."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)

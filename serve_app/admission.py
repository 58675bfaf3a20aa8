"""Who may generate on one replica: how much a user has in progress, and whose turn it is. In memory.

    admit (or RateLimited)  ->  Ticket  ->  turn()  ->  the engine has it  ->  release()

Limits are per user and replica; each of `n` samples is a generation. They keep a second request out, never
the only one: a request that is over a limit by itself is let in while its user has nothing else in progress.

Turns. vLLM never takes a place back from a running sequence to give it to a waiting one, whatever their
priorities, so a place is kept free beforehand (Choudhury and Hahne's dynamic thresholds). A user with
nothing in the engine goes there at once. Another generation starts only while all that its user then has in
the engine is at most SHARE times the places that stay free. One greedy user takes 12 of 16 places, two of
them 6 each, and there is a free place for the next user. A user's own requests start in the order in which
they came; of several users that wait, the one with the least in the engine is first.
"""

import asyncio
from collections import Counter, deque

from registry.errors import RateLimited

SHARE = 3
RETRY_AFTER_S = 1


class Ticket:
    """One admitted request of `num_samples` generations and at most `num_tokens` tokens."""

    def __init__(self, admission: "Admission", user: str, num_samples: int, num_tokens: int) -> None:
        self.user = user
        self.num_samples = num_samples
        self.num_tokens = num_tokens
        self.is_running = False
        self.is_released = False
        self.started: asyncio.Future[None] | None = None
        self._admission = admission

    async def turn(self) -> None:
        """Wait until the engine may have it. Who stops waiting releases."""
        await self._admission.turn(self)

    def release(self) -> None:
        """Its generations have ended, or will not be; again, it changes nothing."""
        if not self.is_released:
            self.is_released = True
            self._admission.release(self)


class Admission:
    """`num_places`: sequences that the engine runs at once. Not thread-safe: one event loop uses it."""

    def __init__(self, num_places: int, max_generations_per_user: int, max_tokens_per_user: int) -> None:
        self._num_places = num_places
        self._max_generations = max_generations_per_user
        self._max_tokens = max_tokens_per_user
        self._generations: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._num_running = 0
        self._waiting: dict[str, deque[Ticket]] = {}

    def num_generations(self, user: str) -> int:
        """In progress: waiting for a turn, or in the engine."""
        return self._generations[user]

    def check(self, user: str, num_samples: int, num_tokens: int) -> None:
        """Whether it would be admitted now. Raises: RateLimited."""
        num_generations = self._generations[user]
        if num_generations:
            if num_generations + num_samples > self._max_generations:
                raise RateLimited(
                    f"you have {num_generations} generations in progress on this replica; with the "
                    f"{num_samples} asked for they would be more than {self._max_generations}",
                    retry_after_s=RETRY_AFTER_S,
                )
            if self._tokens[user] + num_tokens > self._max_tokens:
                raise RateLimited(
                    f"your generations in progress may take {self._tokens[user]} tokens; with the "
                    f"{num_tokens} of this one they would be more than {self._max_tokens}",
                    retry_after_s=RETRY_AFTER_S,
                )

    def admit(self, user: str, num_samples: int, num_tokens: int) -> Ticket:
        """Raises: RateLimited."""
        self.check(user, num_samples, num_tokens)
        self._generations[user] += num_samples
        self._tokens[user] += num_tokens
        return Ticket(self, user, num_samples, num_tokens)

    async def turn(self, ticket: Ticket) -> None:
        if ticket.user not in self._waiting and self._may_start(ticket):
            self._start(ticket)
            return
        ticket.started = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(ticket.user, deque()).append(ticket)
        await ticket.started

    def release(self, ticket: Ticket) -> None:
        user = ticket.user
        _subtract(self._generations, user, ticket.num_samples)
        _subtract(self._tokens, user, ticket.num_tokens)
        if ticket.is_running:
            _subtract(self._running, user, ticket.num_samples)
            self._num_running -= ticket.num_samples
        elif ticket.started is not None:
            self._leave_queue(ticket)
        self._start_waiting()

    def _may_start(self, ticket: Ticket) -> bool:
        running = self._running[ticket.user]
        free = self._num_places - self._num_running - ticket.num_samples
        return running == 0 or running + ticket.num_samples <= SHARE * free

    def _start(self, ticket: Ticket) -> None:
        ticket.is_running = True
        self._running[ticket.user] += ticket.num_samples
        self._num_running += ticket.num_samples

    def _start_waiting(self) -> None:
        while ticket := self._next():
            self._leave_queue(ticket)
            self._start(ticket)
            if ticket.started is not None and not ticket.started.done():
                ticket.started.set_result(None)

    def _next(self) -> Ticket | None:
        """The first request of the waiting user with the least in the engine, if it may start."""
        user = min(self._waiting, key=lambda user: self._running[user], default=None)
        if user is None:
            return None
        first = self._waiting[user][0]
        return first if self._may_start(first) else None

    def _leave_queue(self, ticket: Ticket) -> None:
        queue = self._waiting[ticket.user]
        queue.remove(ticket)
        if not queue:
            del self._waiting[ticket.user]


def _subtract(counter: Counter[str], user: str, number: int) -> None:
    """A user with nothing left takes no memory."""
    counter[user] -= number
    if counter[user] <= 0:
        del counter[user]

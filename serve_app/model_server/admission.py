"""Limits the generations of each user on one replica, and decides which prompt goes to the engine next.

    admit (or RateLimited)  ->  Tickets  ->  turn()  ->  the engine has it  ->  release()

Limits are per user and replica. Each of `n` samples is a generation. A request is admitted with all its
prompts or not at all. A single prompt that exceeds a limit is admitted if its user has nothing else in
progress. A request whose prompts exceed a limit together is refused; they can be sent one by one.

Turns by places. vLLM never takes a place from a running sequence for a waiting one, whatever their
priorities. Therefore some places are kept free (dynamic thresholds of Choudhury and Hahne). A user with
nothing in the engine goes there at once. Another generation of a user starts only while all generations of
that user in the engine are at most a share of the places that stay free:

- SHARE_ALONE times the free places, if no other user has sent a request for COMPANY_S: 12 of 16 places
- `share_beside` times the free places otherwise: with 0.5 one greedy user has 5 of 16 places, two have 4 each

The requests of one user start in the order of their arrival. If several users wait, the one with the fewest
generations in the engine is first.

A free place is not enough for a fast first token. A new request waits for the current step and is part of the
next one, and a step with more sequences takes longer, especially on few cores. That is why the share is
smaller beside other users. One prompt with many samples is an exception: if its user has nothing else in the
engine, it gets all the places that it needs.

Turns by tokens. vLLM continues the prompts that it has begun to read before it begins another one. Many long
prompts of one user would therefore delay the first token of all other users. While a prompt of a user is not
read yet, the user's next prompts start only if all of them together fit into one step.
"""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

from registry.errors import RateLimited

SHARE_ALONE = 3.0
COMPANY_S = 60.0
MAX_RETRY_AFTER_S = 60


class Ticket:
    """An admitted prompt with `num_samples` generations. `num_tokens` is the bound that is known so far."""

    def __init__(self, admission: "Admission", user: str, num_samples: int) -> None:
        self.user = user
        self.num_samples = num_samples
        self.num_tokens = 0
        self.num_prompt_tokens = 0
        self.is_running = False
        self.is_released = False
        self.started: asyncio.Future[None] | None = None
        self._admission = admission

    def claim(self, num_tokens: int) -> None:
        """Increases the bound to `num_tokens`. A smaller number changes nothing. Raises: RateLimited."""
        self._admission.claim(self, num_tokens)

    def prompt_is_read(self) -> None:
        """Notes that the engine has read the prompt. Further calls change nothing."""
        self._admission.prompt_is_read(self)

    async def turn(self) -> None:
        """Waits until the prompt may go to the engine.

        A caller that stops waiting must release the ticket. A release cancels the wait.
        """
        await self._admission.turn(self)
        if self.is_released:  # it was released just after its turn had come
            raise asyncio.CancelledError

    def release(self) -> None:
        """Gives everything back when the generations have ended or will not start. It may be called again."""
        if not self.is_released:
            self.is_released = True
            self._admission.release(self)


class Admission:
    """The admission of one replica.

    `num_places` is the number of sequences that the engine runs at the same time. `step_tokens` is the
    largest number of tokens in one step. `clock` returns seconds since an arbitrary start. This class is not
    thread-safe: one event loop uses it.
    """

    def __init__(
        self,
        num_places: int,
        max_generations_per_user: int,
        max_tokens_per_user: int,
        step_tokens: int,
        share_beside: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_places = num_places
        self._share_beside = share_beside
        self._clock = clock
        self._last_asked: OrderedDict[str, float] = OrderedDict()
        self._step_tokens = step_tokens
        self._max_generations = max_generations_per_user
        self._max_tokens = max_tokens_per_user
        self._generations: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()
        self._num_running = 0
        self._waiting: dict[str, deque[Ticket]] = {}

    def set_limits(
        self, max_generations_per_user: int, max_tokens_per_user: int, share_beside: float
    ) -> None:
        """Changes the limits. What was admitted stays admitted, and what waits may have its turn now."""
        self._max_generations = max_generations_per_user
        self._max_tokens = max_tokens_per_user
        self._share_beside = share_beside
        self._start_waiting()

    @property
    def num_all_generations(self) -> int:
        """The number of generations of all users that wait or run."""
        return self._generations.total()

    def num_generations(self, user: str) -> int:
        """Returns the number of generations of a user that wait for a turn or are in the engine."""
        return self._generations[user]

    def admit(self, user: str, num_samples: int, num_prompts: int = 1) -> list[Ticket]:
        """Returns a ticket for each prompt of one request. Raises: RateLimited."""
        self._note_asked(user)
        in_progress, asked = self._generations[user], num_samples * num_prompts
        if in_progress + asked > self._max_generations:
            if in_progress:
                raise self._refusal(
                    user,
                    f"you have {in_progress} generations in progress on this replica; with the "
                    f"{asked} asked for they would be more than {self._max_generations}",
                )
            if num_prompts > 1:
                raise self._refusal(
                    user,
                    f"the {num_prompts} prompts ask for {asked} generations at once, which is more than "
                    f"{self._max_generations}: send fewer prompts in a request",
                )
        self._generations[user] += asked
        return [Ticket(self, user, num_samples) for _ in range(num_prompts)]

    def claim(self, ticket: Ticket, num_tokens: int) -> None:
        user, more = ticket.user, num_tokens - ticket.num_tokens
        if more <= 0:
            return
        is_alone = self._generations[user] == ticket.num_samples
        if self._tokens[user] + more > self._max_tokens and not is_alone:
            raise self._refusal(
                user,
                f"your generations in progress may take {self._tokens[user]} tokens; with the "
                f"{more} of this one they would be more than {self._max_tokens}",
            )
        self._tokens[user] += more
        ticket.num_tokens = num_tokens

    def _refusal(self, user: str, message: str) -> RateLimited:
        """Returns an error with the seconds after which to try again.

        They grow with the user's generations in progress: one second for each time that they would fill the
        engine. This keeps repeated requests of many refused clients from loading the machine.
        """
        fillings = self._generations[user] // self._num_places
        return RateLimited(message, retry_after_s=min(max(fillings, 1), MAX_RETRY_AFTER_S))

    async def turn(self, ticket: Ticket) -> None:
        if ticket.user not in self._waiting and self._has_place(ticket) and self._is_read_soon(ticket):
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
            self._forget_prompt(ticket)
        elif ticket.started is not None:
            self._leave_queue(ticket)
            ticket.started.cancel()
        self._start_waiting()

    def prompt_is_read(self, ticket: Ticket) -> None:
        self._forget_prompt(ticket)
        self._start_waiting()

    def _forget_prompt(self, ticket: Ticket) -> None:
        _subtract(self._unread, ticket.user, ticket.num_prompt_tokens)
        ticket.num_prompt_tokens = 0

    def _has_place(self, ticket: Ticket) -> bool:
        running = self._running[ticket.user]
        free = self._num_places - self._num_running - ticket.num_samples
        return running == 0 or running + ticket.num_samples <= self._share(ticket.user) * free

    def _share(self, user: str) -> float:
        self._forget_old()
        is_alone = not (self._last_asked.keys() | self._generations.keys()) - {user}
        return SHARE_ALONE if is_alone else self._share_beside

    def _note_asked(self, user: str) -> None:
        self._forget_old()
        self._last_asked[user] = self._clock()
        self._last_asked.move_to_end(user)

    def _forget_old(self) -> None:
        while self._last_asked:
            user, asked_s = next(iter(self._last_asked.items()))
            if self._clock() - asked_s < COMPANY_S:
                return
            del self._last_asked[user]

    def _is_read_soon(self, ticket: Ticket) -> bool:
        unread = self._unread[ticket.user]
        return unread == 0 or unread + ticket.num_prompt_tokens <= self._step_tokens

    def _start(self, ticket: Ticket) -> None:
        ticket.is_running = True
        self._running[ticket.user] += ticket.num_samples
        self._unread[ticket.user] += ticket.num_prompt_tokens
        self._num_running += ticket.num_samples

    def _start_waiting(self) -> None:
        while ticket := self._next():
            self._leave_queue(ticket)
            self._start(ticket)
            if ticket.started is not None and not ticket.started.done():
                ticket.started.set_result(None)

    def _next(self) -> Ticket | None:
        """Returns the next ticket to start, if there is a place for it.

        It is the first one of the waiting user with the fewest generations in the engine. A user who has to
        wait until own prompts are read is skipped, so that others do not wait for that.
        """
        for user in sorted(self._waiting, key=lambda user: self._running[user]):
            first = self._waiting[user][0]
            if self._is_read_soon(first):
                return first if self._has_place(first) else None
        return None

    def _leave_queue(self, ticket: Ticket) -> None:
        queue = self._waiting[ticket.user]
        queue.remove(ticket)
        if not queue:
            del self._waiting[ticket.user]


def _subtract(counter: Counter[str], user: str, number: int) -> None:
    """Subtracts, and removes users at zero, so that they take no memory."""
    counter[user] -= number
    if counter[user] <= 0:
        del counter[user]

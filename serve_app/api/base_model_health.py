"""An ingress replica remembers which base models answer, so that no request waits for a dead one.

It calls `check_health` of the replicas of each base model again and again. One healthy replica is enough. If
all replicas report a fault, the base model is unavailable at once. If no replica answers in time, it may only
be busy: the base model is unavailable after SILENCE_S seconds. If Serve has no replica, it may only be
applying changed settings, which takes less than a second: the base model is unavailable after ABSENCE_S.

With `min_replicas: 0` a base model that nobody uses has no replica. It is then asleep, which is not a fault:
the next request starts a replica and waits for it. It stays asleep while Serve's controller does not answer,
so that the requests that wait for its start go on waiting.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol
from weakref import WeakSet

from ray.serve.exceptions import DeploymentUnavailableError

from registry.errors import Unavailable
from registry.tasks import start_apart
from serve_app.api.in_progress import InProgress
from serve_app.model_server.client import ModelClient
from serve_app.shared_tasks import SharedTasks, is_being_cancelled

PAUSE_S = 1.0
RETRY_S = 0.2
ASK_S = 2.0
SILENCE_S = 5.0
ABSENCE_S = 2.0
WAITING_S = 5.0


class Health(StrEnum):
    """The answer to the question whether a base model can generate."""

    HEALTHY = "healthy"
    FAULTY = "faulty"
    UNKNOWN = "unknown"
    ASLEEP = "asleep"


Ask = Callable[[], Awaitable[Health]]
MaySleep = Callable[[], Awaitable[bool | None]]
"""Returns True if the lack of replicas is no fault: nobody uses the base model, and Serve can start one.

None means that Serve's controller does not answer.
"""


async def never() -> bool:
    return False


class Start(Protocol):
    """The start of a base model that is asleep. `api.cold_start.ColdStart` has it."""

    async def wait(self) -> None:
        """Starts a replica, and returns when it answers."""

    def cancel(self) -> None:
        """Takes the start back. Nobody waits for it any more."""


class NoStart:
    """The start of a base model that never sleeps."""

    async def wait(self) -> None:
        raise AssertionError("a base model that never sleeps was asleep")

    def cancel(self) -> None:
        pass


def asking(
    server: ModelClient,
    timeout_s: float = ASK_S,
    clock: Callable[[], float] = time.monotonic,
    may_sleep: MaySleep = never,
) -> Ask:
    """Returns a function that asks the replicas of a ModelServer for their health."""
    absent_since_s: float | None = None
    num_healthy = 0
    was_asleep = False

    async def ask() -> Health:
        nonlocal absent_since_s, num_healthy, was_asleep
        try:
            num_healthy = await server.num_healthy(timeout_s)
        except TimeoutError:
            # A call of one replica would wait for the next one if this was the last, and so start it.
            was_the_last = num_healthy <= 1 and await may_sleep()
            return Health.UNKNOWN if was_the_last else await _ask_one(server, timeout_s)
        except DeploymentUnavailableError:
            num_healthy = 0
            may = await may_sleep()
            was_asleep = was_asleep if may is None else may
            if was_asleep:
                absent_since_s = None
                return Health.ASLEEP
            absent_since_s = clock() if absent_since_s is None else absent_since_s
            return Health.UNKNOWN if clock() - absent_since_s < ABSENCE_S else Health.FAULTY
        except Exception:
            return Health.FAULTY
        absent_since_s, was_asleep = None, False
        return Health.HEALTHY if num_healthy else Health.FAULTY

    return ask


async def _ask_one(server: ModelClient, timeout_s: float) -> Health:
    """Asks one replica that Serve picks.

    It is used when a broadcast got no answer in time: one silent replica says nothing about the others.
    """
    try:
        await server.check_one(timeout_s)
    except Exception:
        return Health.UNKNOWN
    return Health.HEALTHY


class BaseModelHealth:
    """The health of one base model. `clock` returns seconds since an arbitrary start."""

    def __init__(
        self,
        base_model: str,
        ask: Ask,
        clock: Callable[[], float] = time.monotonic,
        start: Start | None = None,
    ) -> None:
        self._base_model = base_model
        self._ask = ask
        self._clock = clock
        self._start = start or NoStart()
        self._is_asleep = False
        self._asks: SharedTasks[None] = SharedTasks()
        self._asked_s = -RETRY_S
        self._well_s: float | None = None
        self._ill_s: float | None = None
        self._waiting: WeakSet[InProgress] = WeakSet()
        self._starts: set[asyncio.Future[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._closed: Unavailable | None = None

    @property
    def is_asleep(self) -> bool:
        """True if there is no replica because nobody uses the base model. A request starts one."""
        return self._is_asleep and self._closed is None

    @property
    def is_available(self) -> bool:
        """True if the base model answers, or would after a start."""
        if self._closed is not None:
            return False
        if self._is_asleep:
            return True
        is_heard = self._well_s is not None and self._clock() - self._well_s < SILENCE_S
        return is_heard and self._ill_s is None

    async def require(self, request: InProgress | None = None) -> None:
        """Raises Unavailable if the base model cannot answer. If it is asleep, this waits for its start.

        If it becomes unavailable later, `request` is ended with that error, unless its answer has begun.
        """
        if self._closed is not None:
            raise self._closed
        self.watch()
        if not self.is_available and self._clock() - self._asked_s >= RETRY_S:
            await self.ask_now()
        if not self.is_available:
            raise self._error()
        if request is not None:
            self._waiting.add(request)
        if self._is_asleep:
            await self._wait_for_start()
            self._note_healthy(self._clock())

    async def _wait_for_start(self) -> None:
        """Waits until a replica answers. Raises: Unavailable, also when it turns out that none can start."""
        start = asyncio.ensure_future(self._start.wait())
        self._starts.add(start)
        try:
            await start
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            raise self._error() from None
        finally:
            self._starts.discard(start)

    def watch(self) -> None:
        """Starts to ask the replicas again and again, if that is not done already."""
        if self._watching is None or self._watching.done():
            self._watching = start_apart(self._watch())

    async def _watch(self) -> None:
        while True:
            await self.ask_now()
            await asyncio.sleep(PAUSE_S if self.is_available else RETRY_S)

    async def ask_now(self) -> None:
        """Asks the replicas now. Calls at the same time share one question."""
        await self._asks.join("ask", self._learn)()

    async def _learn(self) -> None:
        self._asked_s = asked_s = self._clock()
        answer = await self._ask()
        if answer is Health.HEALTHY:
            self._note_healthy(asked_s)
        elif answer is Health.ASLEEP:
            self._is_asleep, self._ill_s = True, None
        elif answer is Health.FAULTY:
            self._is_asleep = False
            self._ill_s = asked_s if self._ill_s is None else self._ill_s
            if asked_s - self._ill_s >= WAITING_S:
                self._send_away()

    def _note_healthy(self, now_s: float) -> None:
        self._well_s, self._ill_s, self._is_asleep = now_s, None, False

    def close(self, error: Unavailable) -> None:
        """Stops asking, because the base model was removed, and ends requests whose answer has not begun.

        Serve keeps a queued call for a base model that may return. It would start a replica for nobody.
        """
        self._closed = error
        if self._watching is not None:
            self._watching.cancel()
        self._send_away()
        self._start.cancel()

    def _send_away(self) -> None:
        """Ends the requests whose answer has not begun, and all waits for a start.

        They were accepted before the fault was known, and would wait in Serve's queue for a new replica. A
        stream that waits for a start has begun: it told its client that the base model starts.
        """
        for request in list(self._waiting):
            if not request.is_answered:
                request.end(self._error())
        self._waiting.clear()
        for start in self._starts:
            start.cancel()

    def _error(self) -> Unavailable:
        return self._closed or Unavailable(
            f"base model {self._base_model} cannot answer at the moment; try again"
        )

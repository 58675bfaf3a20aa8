"""The leadership of one process over all others of its role: the newest Catalog, and the newest Trainer.

    leaders/<role>.json     epoch, cluster of the leader, clusters that another cluster has superseded

A process takes the leadership when it starts, with a conditional write, and gets an epoch that is higher than
all before. The objects that only a leader may change carry the epoch of their last writer as a fencing token.
A leader writes its own epoch into such an object before it relies on it. The conditional write of a former
leader then fails, finds the higher epoch, and raises `Superseded`.

Two clusters must not take the leadership from each other again and again. Therefore a cluster that another
one has superseded never takes it back, until an operator has released the leadership (`release`).
"""

import asyncio
import logging
import time
from collections.abc import Callable

from registry.errors import Superseded, Unavailable
from registry.records import Record, Timestamp, utc_now
from registry.store import ObjectMissing, ObjectStore, WriteConflict
from registry.tasks import BackgroundTasks

logger = logging.getLogger("ray.serve")

CATALOG = "catalog"
TRAINER = "trainer"
ROLES = (CATALOG, TRAINER)
LOOK_INTERVAL_S = 2.0
"""The greatest age of the last look at the leader with which a process changes anything."""
MAX_SUPERSEDED = 100
NEVER_LED = -1
"""The epoch of a process that never led. Every epoch in the bucket is higher."""
MESSAGE = "another cluster has taken over; this one only answers reads and generations"


class Leader(Record):
    """`leaders/<role>.json`. `is_released`: an operator lets the clusters that were superseded lead again."""

    epoch: int
    cluster: str
    since: Timestamp
    superseded: tuple[str, ...] = ()
    is_released: bool = False


class Unopposed:
    """The leadership of a process that has no rival, as in most tests. Its writes carry no epoch."""

    epoch: int | None = None
    is_superseded = False
    is_released = False

    def require(self) -> None:
        """Raises: Superseded, if another process is known to lead."""

    def lose(self) -> None:
        """Note that an object of the bucket has the epoch of a later leader."""

    def look_soon(self) -> None:
        """Look at the leader in the background, if the last look is old."""

    async def confirm(self, max_age_s: float = LOOK_INTERVAL_S) -> None:
        """Return if this process led at most `max_age_s` ago. Raises: Superseded, Unavailable."""

    async def look_quietly(self) -> None:
        """Look at the leader now. If storage is away, nothing changes."""


class Leadership(Unopposed):
    """The leadership of this process. `take` comes before everything else.

    `cluster` names the cluster and the application. It is the same for all processes that follow one another
    there. `clock` returns seconds since an arbitrary start.
    """

    def __init__(
        self, store: ObjectStore, role: str, cluster: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._role = role
        self._cluster = cluster
        self._clock = clock
        self._looked_at_s = clock()
        self._background = BackgroundTasks()
        self._looking: asyncio.Task[None] | None = None
        self.epoch: int = NEVER_LED
        self.is_superseded = False
        self.is_released = False

    def take(self) -> None:
        """Become the leader, unless the cluster of this process was superseded. Raises: Unavailable."""
        while True:
            looked_at_s = self._clock()
            leader, etag = _read(self._store, self._role)
            if leader is not None and self._cluster in leader.superseded:
                self.lose()
                return
            mine = _successor(leader, self._cluster)
            try:
                _write(self._store, self._role, mine, etag)
            except WriteConflict:
                continue
            self.epoch, self._looked_at_s = mine.epoch, looked_at_s
            logger.info("this is the %s of epoch %d", self._role, mine.epoch)
            return

    def require(self) -> None:
        if self.is_superseded:
            raise Superseded(MESSAGE)

    def lose(self) -> None:
        if not self.is_superseded:
            self.is_superseded = True
            logger.error(
                "a later %s has taken over this bucket, and this one changes nothing any more. If another "
                "cluster has it, `tiger release` lets this one take over again",
                self._role,
            )

    def look(self) -> None:
        """Look at the leader now. Raises: Unavailable."""
        looked_at_s = self._clock()
        leader, _ = _read(self._store, self._role)
        self._looked_at_s = looked_at_s
        if leader is not None and leader.epoch > self.epoch:
            self.lose()
        self.is_released = self.is_superseded and (leader is None or leader.is_released)

    def look_soon(self) -> None:
        is_looking = self._looking is not None and not self._looking.done()
        if self._is_old(LOOK_INTERVAL_S) and not is_looking:
            self._looking = self._background.start(self.look_quietly())

    async def confirm(self, max_age_s: float = LOOK_INTERVAL_S) -> None:
        self.require()
        if self._is_old(max_age_s):
            await asyncio.to_thread(self.look)
            self.require()

    async def look_quietly(self) -> None:
        try:
            await asyncio.to_thread(self.look)
        except Unavailable:
            logger.warning("it is not known if this %s still leads: storage is away", self._role)

    def _is_old(self, max_age_s: float) -> bool:
        return self._clock() - self._looked_at_s >= max_age_s


def release(store: ObjectStore, role: str) -> Leader | None:
    """Let the superseded clusters lead again; returns the present leader, or None if there is none.

    The present leader leads until another process takes the leadership. Its cluster is superseded then.
    """
    while True:
        leader, etag = _read(store, role)
        if leader is None:
            return None
        released = leader.model_copy(update={"is_released": True, "superseded": ()})
        try:
            _write(store, role, released, etag)
        except WriteConflict:
            continue
        return leader


def _successor(leader: Leader | None, cluster: str) -> Leader:
    """The next leader. Its epoch is also higher than all before if the object was deleted by hand."""
    now = utc_now()
    epoch = time.time_ns() // 1000
    if leader is None:
        return Leader(epoch=epoch, cluster=cluster, since=now)
    superseded = [other for other in (*leader.superseded, leader.cluster) if other != cluster]
    latest = tuple(dict.fromkeys(superseded))[-MAX_SUPERSEDED:]
    return Leader(epoch=max(epoch, leader.epoch + 1), cluster=cluster, since=now, superseded=latest)


def _read(store: ObjectStore, role: str) -> tuple[Leader | None, str | None]:
    try:
        stored = store.get(_object_key(role))
    except ObjectMissing:
        return None, None
    return Leader.model_validate_json(stored.body), stored.etag


def _write(store: ObjectStore, role: str, leader: Leader, etag: str | None) -> None:
    key, body = _object_key(role), leader.model_dump_json().encode()
    if etag is None:
        store.create(key, body)
    else:
        store.replace(key, body, etag)


def _object_key(role: str) -> str:
    return f"leaders/{role}.json"

"""Which job each base model's run works on, and whether there is a run at all.

    put -> queue -> take (the run asks) -> release (done) or give_back (its worker died)
             ^                      |
             +------- pause <-------+  its turn is over and others wait: the worker keeps it

A run is started when there is work and none is up; it leaves when there was nothing to do for a while.
Its worker enters first. The one that entered last is the only one that gets jobs: a worker that was taken
for dead and goes on, on a machine that was cut off, is told to leave when it asks. What a worker kept of
paused jobs is lost with it.
"""

import asyncio
import secrets
import time
from collections.abc import Callable

from registry.records import JobRecord
from training.controller.metrics import TrainingMetrics
from training.controller.queue import JobQueue
from training.settings import TrainingSettings
from training.types import Instruction

POLL_S = 20.0
RESTART_S = 1.0

StartRun = Callable[[str, Callable[[], None]], None]


class Dispatcher:
    """One run per base model works on one job at a time. Used from one event loop only.

    `start_run(base_model, on_end)` starts a run; `on_end` is called on the event loop when it has ended.
    """

    def __init__(
        self,
        settings: dict[str, TrainingSettings],
        start_run: StartRun,
        metrics: TrainingMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._start_run = start_run
        self._metrics = metrics
        self._clock = clock
        self._queues = {base_model: JobQueue() for base_model in settings}
        self._taken: dict[str, JobRecord] = {}
        self._records: dict[str, JobRecord] = {}
        self._runs: set[str] = set()
        self._workers: dict[str, str] = {}
        self._turns_began: dict[str, float] = {}
        # By base model, of the worker that entered last: jobs it keeps, and those it keeps for nothing.
        self._kept: dict[str, set[str]] = {base_model: set() for base_model in settings}
        self._dismissed: dict[str, list[str]] = {base_model: [] for base_model in settings}
        self._idle_since: dict[str, float] = {}
        self._work = asyncio.Condition()
        for base_model in settings:
            self._tell_length(base_model)

    def serves(self, base_model: str) -> bool:
        return base_model in self._queues

    async def put(self, record: JobRecord) -> None:
        self._records[record.id] = record
        self._queues[record.base_model].put(record.user, record.id)
        self._tell_length(record.base_model)
        self._ensure_run(record.base_model)
        async with self._work:
            self._work.notify_all()

    async def enter(self, base_model: str) -> str:
        """A worker begins; what it is to call itself. Any other one of this base model is to leave."""
        self._forget_kept(base_model)
        worker = self._workers[base_model] = secrets.token_hex(8)
        async with self._work:
            self._work.notify_all()
        return worker

    async def take(self, base_model: str, worker: str) -> JobRecord | Instruction:
        """The next job, or what a worker does without one.

        A run that asks while it has a job has lost the worker that had it: the job comes first again.
        """
        if not self._is_latest(base_model, worker):
            return Instruction.LEAVE
        self.give_back(base_model)
        poll_until = time.monotonic() + POLL_S
        while (job_id := self._queues[base_model].take()) is None:
            now = time.monotonic()
            idle_since = self._idle_since.setdefault(base_model, now)
            leave_at = idle_since + self._settings[base_model].idle_timeout_s
            if now >= leave_at:
                return Instruction.LEAVE
            if now >= poll_until:
                return Instruction.WAIT
            await self._wait_for_work(base_model, worker, min(leave_at, poll_until) - now)
            if not self._is_latest(base_model, worker):
                return Instruction.LEAVE
        self._tell_length(base_model)
        taken = self._taken[base_model] = self._records[job_id]
        self._turns_began[base_model] = self._clock()
        self._idle_since.pop(base_model, None)
        return taken

    def has_taken(self, record: JobRecord) -> bool:
        taken = self._taken.get(record.base_model)
        return taken is not None and taken.id == record.id

    def must_give_way(self, record: JobRecord) -> bool:
        """Whether this job, which has its turn, had enough of it for those who wait."""
        ran_s = self._clock() - self._turns_began[record.base_model]
        is_over = ran_s >= self._settings[record.base_model].slice_s
        return is_over and self._queues[record.base_model].has_others(record.user)

    def pause(self, record: JobRecord) -> None:
        """The job that has its turn gives way. Its worker keeps it."""
        del self._taken[record.base_model]
        self._kept[record.base_model].add(record.id)
        self._queues[record.base_model].put_last(record.user, record.id)
        self._tell_length(record.base_model)

    def is_kept(self, record: JobRecord) -> bool:
        """Whether the worker has this job, and can go on with it."""
        return record.id in self._kept[record.base_model]

    def resume(self, record: JobRecord) -> None:
        """The worker goes on with a job that it kept."""
        self._kept[record.base_model].discard(record.id)

    def dismissal(self, base_model: str, worker: str) -> str | None:
        """A job that this worker keeps though it has ended; each is told once."""
        is_latest = self._is_latest(base_model, worker)
        return self._dismissed[base_model].pop() if is_latest and self._dismissed[base_model] else None

    def release(self, record: JobRecord) -> None:
        """No run has anything more to do for this job."""
        if self.has_taken(record):
            del self._taken[record.base_model]
        if self.is_kept(record):
            self._kept[record.base_model].discard(record.id)
            self._dismissed[record.base_model].append(record.id)
        self._queues[record.base_model].discard(record.user, record.id)
        self._tell_length(record.base_model)
        self._records.pop(record.id, None)

    def give_back(self, base_model: str) -> None:
        lost = self._taken.pop(base_model, None)
        if lost is not None:
            self._queues[base_model].put_first(lost.user, lost.id)
            self._tell_length(base_model)

    def _tell_length(self, base_model: str) -> None:
        self._metrics.queued(base_model, len(self._queues[base_model]))

    def _ensure_run(self, base_model: str) -> None:
        if base_model not in self._runs:
            self._runs.add(base_model)
            self._idle_since.pop(base_model, None)
            self._start_run(base_model, lambda: self._on_run_end(base_model))

    def _on_run_end(self, base_model: str) -> None:
        self._runs.discard(base_model)
        self._workers.pop(base_model, None)
        self._forget_kept(base_model)
        self.give_back(base_model)
        if len(self._queues[base_model]):
            # Not at once: a run that cannot start must not take the machine with it.
            asyncio.get_running_loop().call_later(RESTART_S, self._ensure_run, base_model)

    def _forget_kept(self, base_model: str) -> None:
        """The jobs wait where they are, and begin anew."""
        self._kept[base_model].clear()
        self._dismissed[base_model].clear()

    def _is_latest(self, base_model: str, worker: str) -> bool:
        return self._workers.get(base_model) == worker

    async def _wait_for_work(self, base_model: str, worker: str, timeout_s: float) -> None:
        def is_over() -> bool:
            return len(self._queues[base_model]) > 0 or not self._is_latest(base_model, worker)

        async with self._work:
            try:
                await asyncio.wait_for(self._work.wait_for(is_over), timeout_s)
            except TimeoutError:
                return

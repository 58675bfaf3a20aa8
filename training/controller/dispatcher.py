"""Decides which job the run of each base model works on, and starts a run when there is work.

    put -> queue -> take (the run asks) -> release (done) or give_back (its worker died)
             ^                      |
             +------- pause <-------+  its turn is over and others wait: the worker keeps its state

A job that its user holds, and the later jobs of its model, are not taken (controller.waiting_jobs).

A run is started when there is work and no run is up. It ends when it had nothing to do for a while. Its
worker enters before it asks for work. Only the worker that entered last gets jobs. A worker that was taken
for dead but still runs, on a machine that was cut off, is told to leave when it asks. The states of paused
jobs that a worker keeps are lost with it. A run whose workers fail before one has entered is started again
after a pause, which grows with each such start.

Jobs of a base model that is not deployed wait. A run whose settings have changed ends after its current job,
and the next one starts with the new settings.
"""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from registry.records import JobRecord
from registry.tasks import BackgroundTasks
from training.controller.metrics import TrainingMetrics
from training.controller.waiting_jobs import WaitingJobs
from training.runs import OnEnd
from training.settings import TrainingSettings
from training.types import Instruction

POLL_S = 8.0
"""The time for which a worker without work waits for an answer.

Serve lets a replica finish its calls for 20 s. A longer call would keep the Trainer from a clean shutdown.
"""
RESTART_S = 1.0
LONGEST_RESTART_S = 120.0

StartRun = Callable[[str, OnEnd], None]


def restart_pause_s(num_failed_starts: int, first_s: float = RESTART_S) -> float:
    """The pause before a run is started again, after so many starts in a row that failed."""
    return min(first_s * 2.0 ** min(num_failed_starts, 16), LONGEST_RESTART_S)


class Dispatcher:
    """The queues and the runs of all base models; each run works on one job at a time.

    It is used from one event loop only. `start_run(base_model, on_end)` starts a run, and `on_end` is called
    on the event loop when the run has ended. `settings` has the base models that are deployed now.
    """

    def __init__(
        self,
        settings: Mapping[str, TrainingSettings],
        start_run: StartRun,
        metrics: TrainingMetrics,
        clock: Callable[[], float] = time.monotonic,
        restart_s: float = RESTART_S,
    ) -> None:
        self._restart_s = restart_s
        self._settings = settings
        self._start_run = start_run
        self._clock = clock
        self._waiting = WaitingJobs(metrics)
        self._taken: dict[str, JobRecord] = {}
        self._runs: set[str] = set()
        self._ending: set[str] = set()
        self._pausing: set[str] = set()
        self._failed_starts: defaultdict[str, int] = defaultdict(int)
        self._workers: dict[str, str] = {}
        self._turns_began: dict[str, float] = {}
        # By base model: the paused jobs that the latest worker keeps, and those of them that have ended.
        self._kept: defaultdict[str, set[str]] = defaultdict(set)
        self._dismissed: defaultdict[str, list[str]] = defaultdict(list)
        self._idle_since: dict[str, float] = {}
        self._work = asyncio.Condition()
        self._background = BackgroundTasks()
        self._is_closed = False
        for base_model in settings:
            self._waiting.tell_length(base_model)

    def serves(self, base_model: str) -> bool:
        """Return True if the base model is deployed. The jobs of others wait."""
        return base_model in self._settings

    async def end_run(self, base_model: str) -> None:
        """Let the run end after its current job, or at once if it has none or no worker yet."""
        if base_model in self._runs:
            self._ending.add(base_model)
            await self._tell_of_work()

    def serve(self, base_model: str) -> None:
        """Start a run for the jobs that waited until the base model was deployed."""
        self._waiting.tell_length(base_model)
        self._run_if_needed(base_model)

    async def put(self, record: JobRecord) -> None:
        self._waiting.put(record)
        self._run_if_needed(record.base_model)
        await self._tell_of_work()

    def hold(self, record: JobRecord) -> None:
        """Keep a job, and the later jobs of its model, from being taken. If it runs, it has to give way."""
        self._waiting.hold(record, is_taken=self.has_taken(record))

    async def let_go(self, record: JobRecord) -> None:
        """Hold a job no longer. The jobs that waited for that are the last ones of their user."""
        if self._waiting.let_go(record):
            self._run_if_needed(record.base_model)
            await self._tell_of_work()

    async def close(self) -> None:
        """Forget all jobs and send all workers away, because a later Trainer has the jobs."""
        self._is_closed = True
        self._taken.clear()
        self._waiting.clear()
        for base_model in [*self._kept, *self._dismissed]:
            self._forget_kept(base_model)
        self._workers.clear()
        await self._tell_of_work()

    async def enter(self, base_model: str) -> str:
        """Register a new worker and return its name. Every other worker of this base model has to leave."""
        self._forget_kept(base_model)
        self._failed_starts[base_model] = 0
        worker = self._workers[base_model] = secrets.token_hex(8)
        await self._tell_of_work()
        return worker

    async def take(self, base_model: str, worker: str) -> JobRecord | Instruction:
        """The next job, or what a worker does without one.

        A run that asks while it has a job has lost the worker that had it: that job is the next one again.
        """
        if not self._is_latest(base_model, worker):
            return Instruction.LEAVE
        self.give_back(base_model)
        poll_until = time.monotonic() + POLL_S
        while not self._must_leave(base_model, worker):
            if (taken := self._waiting.take(base_model)) is not None:
                self._begin_turn(base_model, taken)
                return taken
            now = time.monotonic()
            idle_since = self._idle_since.setdefault(base_model, now)
            leave_at = idle_since + self._settings[base_model].idle_timeout_s
            if now >= leave_at:
                return Instruction.LEAVE
            if now >= poll_until:
                return Instruction.WAIT
            await self._wait_for_work(base_model, worker, min(leave_at, poll_until) - now)
        return Instruction.LEAVE

    def _begin_turn(self, base_model: str, taken: JobRecord) -> None:
        self._taken[base_model] = taken
        self._turns_began[base_model] = self._clock()
        self._idle_since.pop(base_model, None)

    def is_starting(self, base_model: str) -> bool:
        """Return True if a run was started and none of its workers has entered yet."""
        return base_model in self._runs and base_model not in self._workers

    def with_runs(self) -> list[str]:
        """The base models that have a run."""
        return sorted(self._runs)

    def is_unwanted(self, base_model: str) -> bool:
        """Return True if the run is to end: nobody has another job for it."""
        return self._is_closed or base_model in self._ending or not self.serves(base_model)

    def num_failed_starts(self, base_model: str) -> int:
        """The number of runs in a row that ended with an error before a worker had entered."""
        return self._failed_starts[base_model]

    def waiting(self, base_model: str) -> list[str]:
        """The ids of the jobs that wait for their turn, or for their user."""
        return self._waiting.ids(base_model)

    def has_work(self, base_model: str) -> bool:
        """Return True if the run works on a job."""
        return base_model in self._taken

    def has_taken(self, record: JobRecord) -> bool:
        taken = self._taken.get(record.base_model)
        return taken is not None and taken.id == record.id

    def must_give_way(self, record: JobRecord) -> bool:
        """Return True if its user holds this job, or its turn is over and jobs of other users wait."""
        if self._waiting.is_held(record):
            return True
        ran_s = self._clock() - self._turns_began[record.base_model]
        is_over = ran_s >= self._settings[record.base_model].slice_s
        return is_over and self._waiting.has_others(record)

    def pause(self, record: JobRecord) -> None:
        """End the turn of the job that has it. Its worker keeps the job's state."""
        del self._taken[record.base_model]
        self._kept[record.base_model].add(record.id)
        self._waiting.put_last(record)

    def is_kept(self, record: JobRecord) -> bool:
        """Return True if the worker keeps this job's state and can continue it."""
        return record.id in self._kept[record.base_model]

    def resume(self, record: JobRecord) -> None:
        """Note that the worker continues a job whose state it kept."""
        self._kept[record.base_model].discard(record.id)

    def dismissal(self, base_model: str, worker: str) -> str | None:
        """The id of a job whose state this worker keeps although the job has ended; each is returned once."""
        is_latest = self._is_latest(base_model, worker)
        return self._dismissed[base_model].pop() if is_latest and self._dismissed[base_model] else None

    def release(self, record: JobRecord) -> None:
        """Forget a job for which no run has anything more to do."""
        if self.has_taken(record):
            del self._taken[record.base_model]
        if self.is_kept(record):
            self._kept[record.base_model].discard(record.id)
            self._dismissed[record.base_model].append(record.id)
        if self._waiting.remove(record):
            self._run_if_needed(record.base_model)
            self._background.start(self._tell_of_work())

    def give_back(self, base_model: str) -> None:
        lost = self._taken.pop(base_model, None)
        if lost is not None:
            self._waiting.put_first(lost)

    async def _tell_of_work(self) -> None:
        async with self._work:
            self._work.notify_all()

    def _run_if_needed(self, base_model: str) -> None:
        is_possible = self.serves(base_model) and not self._is_closed and self._has_ready(base_model)
        if is_possible and base_model not in self._runs | self._pausing:
            self._runs.add(base_model)
            self._idle_since.pop(base_model, None)
            self._start_run(base_model, lambda failure=None: self._on_run_end(base_model, failure))

    def _on_run_end(self, base_model: str, failure: str | None) -> None:
        is_start = self.is_starting(base_model) and not self.is_unwanted(base_model)
        has_failed_to_start = failure is not None and is_start
        self._runs.discard(base_model)
        self._ending.discard(base_model)
        self._workers.pop(base_model, None)
        self._forget_kept(base_model)
        self.give_back(base_model)
        if has_failed_to_start:
            self._failed_starts[base_model] += 1
        if self.serves(base_model) and (self._has_ready(base_model) or has_failed_to_start):
            # Not at once: a run that cannot start must not occupy the whole machine with its attempts.
            self._pausing.add(base_model)
            pause_s = restart_pause_s(self.num_failed_starts(base_model), self._restart_s)
            asyncio.get_running_loop().call_later(pause_s, self._after_pause, base_model)

    def _after_pause(self, base_model: str) -> None:
        self._pausing.discard(base_model)
        self._run_if_needed(base_model)

    def _has_ready(self, base_model: str) -> bool:
        return self._waiting.num_ready(base_model) > 0

    def _forget_kept(self, base_model: str) -> None:
        """Forget which states the worker kept. These jobs keep their places in the queue and begin anew."""
        self._kept[base_model].clear()
        self._dismissed[base_model].clear()

    def _is_latest(self, base_model: str, worker: str) -> bool:
        return not self._is_closed and self._workers.get(base_model) == worker

    def _must_leave(self, base_model: str, worker: str) -> bool:
        return self.is_unwanted(base_model) or not self._is_latest(base_model, worker)

    async def _wait_for_work(self, base_model: str, worker: str, timeout_s: float) -> None:
        def is_over() -> bool:
            return self._has_ready(base_model) or self._must_leave(base_model, worker)

        async with self._work:
            try:
                await asyncio.wait_for(self._work.wait_for(is_over), timeout_s)
            except TimeoutError:
                return

"""The events of jobs whose run cannot start. The test says what the workers wait for."""

import asyncio
import json

import pytest

from registry.jobs import Jobs
from registry.records import JobRecord, utc_now
from registry.retry import Retry
from tests.support.queueing import CountingStore
from tests.support.serving_side import ServingSide
from tests.support.waiting import comes_true
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.dispatcher import Dispatcher
from training.controller.metrics import NoMetrics
from training.controller.run_starts import RunStarts
from training.controller.shared_gpus import SharedGpus
from training.settings import TrainingSettings

BASE = "one"
GPU = "1 GPU (0 of 1 free)"


class Waiting:
    """A run that was started and whose workers have not entered. The test puts the answers in `shortages`."""

    def __init__(self) -> None:
        self.shortages: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.dispatcher = Dispatcher({BASE: TrainingSettings()}, lambda base_model, on_end: None, NoMetrics())
        self._active = ActiveJobs()
        self.ended: list[str] = []
        settings = {BASE: TrainingSettings()}
        gpus = SharedGpus(ServingSide(), settings, Retry())
        self.starts = RunStarts(
            self.dispatcher,
            self._active,
            gpus,
            lambda base_model, on_end: None,
            self._shortage,
            self._end,
            look_interval_s=0,
        )

    async def _shortage(self, base_model: str) -> str | None:
        answer = await self.shortages.get()
        self.shortages.task_done()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _end(self, base_model: str) -> None:
        self.ended.append(base_model)

    async def put(self, job_id: str, is_held: bool = False) -> ActiveJob:
        record = JobRecord(
            id=job_id,
            user=job_id[0],
            uid=f"u-{job_id}",
            model="m",
            base_model=BASE,
            created=utc_now(),
            steps=1,
            is_held=is_held,
        )
        job = ActiveJob(Jobs(CountingStore()), record)
        self._active.add(job)
        await self.dispatcher.put(record)
        return job

    async def answer(self, *shortages: str | Exception | None) -> None:
        """Give these answers, and wait until the watch has acted on them and asks for the next one."""
        for shortage in (*shortages, None):
            await self.shortages.put(shortage)
        await asyncio.wait_for(self.shortages.join(), 20)


async def messages(job: ActiveJob) -> list[str]:
    return [json.loads(line)["message"] async for line in job.follow(until_end=False)]


@pytest.fixture
async def waiting() -> Waiting:
    return Waiting()


async def test_each_waiting_job_is_told_once_what_it_waits_for(waiting: Waiting) -> None:
    first = await waiting.put("a1")
    held = await waiting.put("a2", is_held=True)
    watch = asyncio.create_task(waiting.starts.watch(BASE))
    await waiting.answer(None)
    assert await messages(first) == []
    await waiting.answer(GPU, GPU, RuntimeError("Ray does not answer"))
    second = await waiting.put("b1")
    await waiting.answer(GPU, "2 CPU (0 of 4 free)")
    told = [f"The training waits for {what}" for what in (GPU, "2 CPU (0 of 4 free)")]
    assert await messages(first) == await messages(second) == told
    await waiting.dispatcher.enter(BASE)
    await waiting.shortages.put(GPU)
    await asyncio.wait_for(watch, 20)
    assert await messages(first) == told
    assert await messages(held) == [], "it waits for its user"


@pytest.mark.parametrize("is_superseded", [False, True])
async def test_start_that_nobody_wants_any_more_is_ended(waiting: Waiting, is_superseded: bool) -> None:
    """The settings have changed, or a later Trainer leads. The workers would wait for ever, as they did."""
    first = await waiting.put("a1")
    watch = asyncio.create_task(waiting.starts.watch(BASE))
    await waiting.answer(None)
    assert waiting.ended == []
    await (waiting.dispatcher.close() if is_superseded else waiting.dispatcher.end_run(BASE))
    await waiting.shortages.put(None)
    await comes_true(lambda: BASE in waiting.ended)
    await waiting.dispatcher.enter(BASE)
    await waiting.shortages.put(None)
    await asyncio.wait_for(watch, 20)
    assert await messages(first) == []


async def test_a_run_whose_worker_has_entered_is_not_watched(waiting: Waiting) -> None:
    await waiting.put("a1")
    await waiting.dispatcher.enter(BASE)
    await asyncio.wait_for(waiting.starts.watch(BASE), 20)


async def test_each_waiting_job_is_told_once_why_its_run_cannot_start(waiting: Waiting) -> None:
    first = await waiting.put("a1")
    for _ in range(2):
        await waiting.starts.failed(BASE, "OutOfMemoryError")
    second = await waiting.put("b1")
    await waiting.starts.failed(BASE, "OutOfMemoryError")
    await waiting.starts.failed(BASE, "FileNotFoundError")
    told = [
        f"The training cannot start and is tried again: {failure}"
        for failure in ("OutOfMemoryError", "FileNotFoundError")
    ]
    assert await messages(first) == await messages(second) == told

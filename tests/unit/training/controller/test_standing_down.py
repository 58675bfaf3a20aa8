"""A controller that stands down, because a later one leads: its looks, its runs and its jobs."""

import asyncio

import pytest

from registry.errors import Superseded
from registry.jobs import Jobs
from registry.leadership import Unopposed
from registry.records import JobRecord, utc_now
from tests.support.queueing import CountingStore
from tests.support.waiting import comes_true
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.dispatcher import Dispatcher
from training.controller.metrics import NoMetrics
from training.controller.recovery import Recovery
from training.controller.succession import Succession
from training.settings import TrainingSettings

BASE = "base"
RECORD = JobRecord(
    id="job-" + "0" * 24, user="alice", uid="u", model="m", base_model=BASE, created=utc_now(), steps=1
)


class FaultyLook(Unopposed):
    """A leadership whose first look fails as nobody expects. Its second look finds a later leader."""

    epoch = 1
    num_looks = 0

    async def look_quietly(self) -> None:
        self.num_looks += 1
        if self.num_looks == 1:
            raise ValueError("the record of the leader cannot be read")
        self.is_superseded = True


class Former:
    """The parts of a controller with one run that concern its standing down."""

    def __init__(self, leadership: Unopposed) -> None:
        self.jobs = Jobs(CountingStore())
        self.active = ActiveJobs()
        self.dispatcher = Dispatcher({BASE: TrainingSettings()}, lambda base_model, on_end: None, NoMetrics())
        self.ended_runs: list[str] = []
        recovery = Recovery(self.jobs, self.active, self.dispatcher)
        self.succession = Succession(leadership, recovery, self.dispatcher, self.active, 0, self._end_run)

    async def _end_run(self, base_model: str) -> None:
        self.ended_runs.append(base_model)


async def test_controller_stands_down_although_an_earlier_look_failed() -> None:
    former = Former(FaultyLook())
    await former.succession.begin()
    worker = await former.dispatcher.enter(BASE)
    assert await asyncio.wait_for(former.dispatcher.take(BASE, worker), 15) == "leave"


async def test_runs_are_ended_once() -> None:
    """A worker that is in the middle of a step would not be told to leave before it asks."""
    former = Former(Unopposed())
    await former.dispatcher.put(RECORD)
    await former.dispatcher.enter(BASE)
    for _ in range(2):
        await former.succession.stand_down()
    await comes_true(lambda: former.ended_runs == [BASE])


async def test_job_that_was_being_accepted_is_given_up_too() -> None:
    """Otherwise those who follow it would wait for ever. The later controller has it."""
    former = Former(Unopposed())
    await former.succession.stand_down()
    job = ActiveJob(former.jobs, RECORD)
    former.active.add(job)
    await former.succession.stand_down()
    with pytest.raises(Superseded):
        await asyncio.wait_for(anext(job.follow(until_end=True)), 15)
    assert not former.active.knows("alice", RECORD.id)

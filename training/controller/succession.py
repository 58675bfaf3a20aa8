"""One Trainer follows another: it takes up the unfinished jobs, and stands down when a later one leads.

begin  ->  the unfinished jobs of the bucket are taken over and queued
watch  ->  a job that a former Trainer accepted late is taken over, too
       ->  a later Trainer leads: stand down

A Trainer that stands down forgets its jobs, which the later Trainer takes over. Its runs are ended, reports
of their workers are refused, and those who follow a job get `Superseded`. A run that went on would replace
the workers that it loses, and within one cluster these would enter at the later Trainer.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from registry.errors import JobNotFound, Superseded, Unavailable
from registry.leadership import LOOK_INTERVAL_S, Unopposed
from registry.tasks import BackgroundTasks
from training.controller.active_jobs import ActiveJobs
from training.controller.dispatcher import Dispatcher
from training.controller.recovery import Recovery
from training.controller.run_starts import EndRun, nothing_ends

logger = logging.getLogger("ray.serve")

LOOKS_PER_TAKE_UP = 15
"""The number of looks at the leader until the unfinished jobs of the bucket are listed again."""


class Succession:
    """The place of a controller among the Trainers of its bucket."""

    def __init__(
        self,
        leadership: Unopposed,
        recovery: Recovery,
        dispatcher: Dispatcher,
        active: ActiveJobs,
        look_interval_s: float = LOOK_INTERVAL_S,
        end_run: EndRun = nothing_ends,
    ) -> None:
        self._leadership = leadership
        self._recovery = recovery
        self._dispatcher = dispatcher
        self._active = active
        self._look_interval_s = look_interval_s
        self._end_run = end_run
        self._has_stood_down = False
        self._background = BackgroundTasks()

    async def begin(self) -> None:
        """Take up the unfinished jobs, if this controller leads. Raises: Unavailable."""
        if self._leadership.epoch is not None:
            self._background.start(self._watch())
        try:
            self._leadership.require()
            await self._recovery.take_up()
        except Superseded:
            await self.stand_down()

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[None]:
        """The block changes something for a client. Raises: Superseded, if this controller does not lead."""
        try:
            await self._leadership.confirm()
            yield
        except Superseded:
            await self.stand_down()
            raise

    @asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """The block takes the report of a worker. Raises: JobNotFound, if a later Trainer has the job."""
        try:
            yield
        except Superseded as error:
            await self.stand_down()
            raise JobNotFound("this attempt was given up") from error

    async def stand_down(self) -> None:
        """Give up all jobs. A further call gives up those that were being accepted during the one before."""
        self._leadership.lose()
        if not self._has_stood_down:
            self._has_stood_down = True
            await self._dispatcher.close()
            for base_model in self._dispatcher.with_runs():
                self._background.start(self._end_run(base_model))
        for job in self._active.clear():
            await job.abandon()

    async def _watch(self) -> None:
        num_looks = 0
        while True:
            await asyncio.sleep(self._look_interval_s)
            num_looks += 1
            try:
                await self._look(is_time_to_take_up=num_looks % LOOKS_PER_TAKE_UP == 0)
            except Exception:  # a controller that does not look any more would never stand down
                logger.exception("the look at the leader and at the unfinished jobs has failed")

    async def _look(self, is_time_to_take_up: bool) -> None:
        await self._leadership.look_quietly()
        if self._leadership.is_superseded:
            await self.stand_down()
        elif is_time_to_take_up:
            await self._take_up()

    async def _take_up(self) -> None:
        try:
            await self._recovery.take_up()
        except Superseded:
            await self.stand_down()
        except Unavailable:
            logger.warning("unfinished jobs are not looked for: storage is away")

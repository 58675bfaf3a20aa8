"""A real controller and a real worker: a long job gives way to a short one of another user."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from registry.records import JobRequest, JobStatus, Method
from registry.revisions import Revisions
from registry.store import ObjectStore
from tests.support.method_jobs import validated
from tests.support.model_records import model_record
from tests.support.queueing import Clock
from tests.support.serving_side import ServingSide
from tests.support.tiny_jobs import run, tiny_assignment, tiny_resident
from training.controller.controller import TrainingController
from training.settings import TrainingSettings
from training.types import Assignment, Instruction, Order, Place, Resumption, Standing, StepProgress
from training.worker import controller_link
from training.worker.adapter import WEIGHTS_FILE
from training.worker.attempts import Attempts, WorkerContext
from training.worker.starting_point import StartingPoints

T = TypeVar("T")
BASE = "tiny"
SLICE_S = 3
"""The short job has fewer packs, and the long one more."""
LONG = validated(Method.SUPERVISED, 6, batch_size=2).request
SHORT = tiny_assignment(steps=1).request
MODELS = {
    user: model_record(uid=user, id=user, base_model=BASE, rank=4, alpha=8, dropout=0.3)
    for user in ("greedy", "light")
}


class Link(controller_link.Link):
    """The calls of a worker to a controller on another thread. Each look is a second of its clock."""

    def __init__(self, controller: TrainingController, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._controller = controller
        self._loop = loop
        self._clock = clock

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def submit(self, user: str, request: JobRequest) -> str:
        return self.call(self._controller.submit(user, MODELS[user], request)).id

    def enter(self) -> str:
        return self.call(self._controller.enter(BASE))

    def next_order(self, worker: str) -> Order:
        return self.call(self._controller.next_assignment(BASE, worker))

    def inform(self, assignment: Assignment, message: str) -> None:
        self.call(self._controller.inform(assignment.job_id, assignment.attempt, message))

    def is_cancelled(self) -> bool:
        return False

    def look(self, assignment: Assignment, place: Place) -> Standing:
        self._clock.now_s += 1
        return self.call(self._controller.look(assignment.job_id, assignment.attempt, place))

    def progress(self, assignment: Assignment, step: StepProgress) -> None:
        self.call(self._controller.progress(assignment.job_id, assignment.attempt, step))

    def keep(self, assignment: Assignment, revision: int) -> None:
        self.call(self._controller.keep(assignment.job_id, assignment.attempt, revision))

    def borrow_gpu(self, assignment: Assignment) -> None: ...

    def return_gpu(self, assignment: Assignment) -> None: ...

    def paused(self, assignment: Assignment) -> None:
        self.call(self._controller.paused(assignment.job_id, assignment.attempt))

    def stopped(self, assignment: Assignment) -> None:
        self.call(self._controller.stopped(assignment.job_id, assignment.attempt))

    def complete(self, assignment: Assignment) -> None:
        self.call(self._controller.complete(assignment.job_id, assignment.attempt))

    def fail(self, assignment: Assignment, code: str, message: str) -> None:
        self.call(self._controller.fail(assignment.job_id, assignment.attempt, code, message))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def controller_over(store: ObjectStore, serving: ServingSide, clock: Clock) -> TrainingController:
    settings = {BASE: TrainingSettings(slice_s=SLICE_S, idle_timeout_s=0.1)}
    return TrainingController(store, serving, settings, lambda base_model, on_end: None, 3, clock=clock)


def test_a_long_supervised_job_gives_way_to_a_short_one_of_grpo_and_makes_the_same_bytes(
    tiny_weights: Path, store: ObjectStore, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    serving, clock = ServingSide(*MODELS.values()), Clock()
    controller = asyncio.run_coroutine_threadsafe(controller_over(store, serving, clock), loop).result(60)
    link = Link(controller, loop, clock)
    resident = tiny_resident(tiny_weights)
    revisions, orders = Revisions(store), list[Order]()
    long, short = link.submit("greedy", LONG), link.submit("light", SHORT)
    with (
        StartingPoints(revisions, quiet_s=0) as points,
        Attempts(WorkerContext(resident, revisions, points, link)) as attempts,
    ):
        worker = link.enter()
        while (order := link.next_order(worker)) is not Instruction.LEAVE:
            orders.append(order)
            attempts.carry_out(order)
    assert [order.job_id for order in orders if isinstance(order, Assignment)] == [long, short]
    assert orders[2] == Resumption(job_id=long, attempt=1), "the short one did not wait for its end"
    assert serving.swaps == [("light", 1), ("greedy", 2)]
    statuses = [link.call(controller.job(*job)).status for job in (("greedy", long), ("light", short))]
    assert statuses == [JobStatus.SUCCEEDED] * 2
    assert isinstance(orders[0], Assignment)
    run(resident, tmp_path / "alone", orders[0])
    revisions.fetch("greedy", 2, tmp_path / "made")
    made, alone = ((tmp_path / name / WEIGHTS_FILE).read_bytes() for name in ("made", "alone"))
    assert made == alone
    kept = link.call(controller.job("greedy", long)).checkpoints
    assert [(each.revision, each.step) for each in kept] == [(1, 3)]
    assert kept[0].metrics["valid_loss"] > 0

"""The surroundings of a training controller: a real object store, a fake worker and a fake serving side."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

from registry.errors import Unavailable
from registry.leadership import TRAINER, Leadership
from registry.meter import Meter
from registry.records import (
    Group,
    Hyperparameters,
    JobRequest,
    Message,
    ModelRecord,
    RewardedResponse,
)
from registry.retry import Retry
from registry.revisions import Revisions
from registry.store import ObjectStore
from registry.usage import UsageParts
from tests.support.model_records import model_record
from tests.support.serving_side import ServingSide
from tests.support.waiting import comes_true
from training.controller.controller import TrainingController
from training.controller.run_starts import EndRun, nothing_ends
from training.runs import OnEnd
from training.settings import TrainingSettings
from training.types import Assignment, Order, StepProgress

BASE = "base"
SOON = Retry(first_pause_s=0.01, longest_pause_s=0.01)
REQUEST = JobRequest(
    groups=(
        Group(
            messages=(Message(role="user", content="Why?"),),
            responses=(RewardedResponse(content="a", reward=1), RewardedResponse(content="b", reward=0)),
        ),
    ),
    hyperparameters=Hyperparameters(learning_rate=1e-5, learning_steps=5, beta=0.04, epsilon=0.2),
)


def private_model(uid: str = "uid-1") -> ModelRecord:
    return model_record(uid=uid, id=f"id-of-{uid}", name=uid, base_model=BASE, parent_model=BASE)


class DyingStore(ObjectStore):
    """A store that takes `num_writes` writes and then no more, as if its controller had died."""

    def __init__(self, store: ObjectStore, num_writes: int) -> None:
        super().__init__(store.settings)
        self.left = num_writes

    @property
    def is_dead(self) -> bool:
        return self.left < 0

    def put(self, key: str, body: bytes) -> None:
        self._count()
        super().put(key, body)

    def create(self, key: str, body: bytes) -> str:
        self._count()
        return super().create(key, body)

    def replace(self, key: str, body: bytes, etag: str) -> str:
        self._count()
        return super().replace(key, body, etag)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)

    def _count(self) -> None:
        self.left = min(self.left, 1) - 1 if self.is_dead else self.left - 1
        if self.is_dead:
            raise Unavailable("storage cannot be reached")


class World:
    """The things that stay when a controller ends: the bucket, the serving side, and the worker's adapter."""

    def __init__(self, store: ObjectStore, adapter: Path) -> None:
        self.store = store
        self.serving = ServingSide(private_model("uid-1"), private_model("uid-2"), private_model("uid-3"))
        self.revisions = Revisions(store)
        self.runs: list[OnEnd] = []
        self.meters: list[Meter] = []
        """The meters of all controllers, the oldest first. Nothing flushes them but a test."""
        self._adapter = adapter

    def controller(
        self,
        store: ObjectStore | None = None,
        cluster: str | None = None,
        look_interval_s: float = 3600,
        end_run: EndRun = nothing_ends,
        **settings: Any,
    ) -> TrainingController:
        """A controller. With a `cluster`, it takes the leadership, which it looks at in this interval."""
        store = store or self.store
        leadership = None if cluster is None else Leadership(store, TRAINER, cluster)
        if leadership is not None:
            leadership.take()
        self.meters.append(Meter(UsageParts(store)))
        return TrainingController(
            store,
            self.serving,
            {BASE: TrainingSettings(**settings)},
            lambda base_model, on_end: self.runs.append(on_end),
            max_queued_jobs_per_user=3,
            meter=self.meters[-1],
            retry=SOON,
            end_run=end_run,
            leadership=leadership,
            look_interval_s=look_interval_s,
        )

    async def restarted(self, **settings: Any) -> TrainingController:
        controller = self.controller(**settings)
        await controller.recover()
        return controller

    def write_manifest(
        self, assignment: Assignment, revision: int | None = None, step: int | None = None
    ) -> None:
        """Write the manifest, as a worker does before it calls `complete`, or `keep` for an earlier one."""
        self.revisions.publish(
            assignment.uid,
            self._adapter,
            revision=revision or assignment.revision,
            step=step,
            parent_revision=assignment.parent_revision,
            job=assignment.job_id,
            base_model=BASE,
            metrics={"loss": 0.5, "trained_tokens": 42, "duration_s": 1.5},
        )

    async def train(self, controller: TrainingController, assignment: Assignment) -> None:
        await asyncio.to_thread(self.write_manifest, assignment)
        await controller.complete(assignment.job_id, assignment.attempt)

    def jobs_of_revisions(self, uid: str) -> list[str | None]:
        return [manifest.job for manifest in self.revisions.list(uid)]


async def submit(controller: TrainingController, uid: str = "uid-1", user: str = "alice") -> str:
    return (await controller.submit(user, private_model(uid), REQUEST)).id


async def ask(controller: TrainingController) -> Order:
    """The order that a worker gets which has just begun."""
    return await controller.next_assignment(BASE, await controller.enter(BASE))


async def assigned(controller: TrainingController) -> Assignment:
    answer = await asyncio.wait_for(ask(controller), 30)
    assert isinstance(answer, Assignment), answer
    return answer


async def ended(
    world: World, controller: TrainingController, job_id: str, user: str = "alice"
) -> list[dict[str, Any]]:
    """Wait until a job has ended and its end is saved; returns its events."""
    events = [json.loads(line) async for line in controller.events(user, job_id, follow=True)]
    await comes_true(lambda: not any(job_id in marker for marker in world.store.list("jobs-active/")))
    return events


def progress(step: int) -> StepProgress:
    numbers = dict.fromkeys(
        ("loss", "kl", "clip_ratio", "grad_norm", "reward_mean", "reward_std", "learning_rate", "seconds"),
        0.5,
    )
    return StepProgress(step=step, steps=5, **numbers)


async def idle(controller: TrainingController, uid: str) -> None:
    """Wait until the controller has no unfinished job of this model."""
    async with asyncio.timeout(20):
        for pause_s in itertools.chain([0], itertools.repeat(0.01)):
            await asyncio.sleep(pause_s)
            if not await controller.is_training(uid):
                return


def assert_ended_once(events: list[dict[str, Any]], kind: str) -> None:
    ends = [event["type"] for event in events if event["type"] in ("stop", "error")]
    assert ends == [kind]
    assert events[-1]["type"] == kind

"""The controller against a real object store. The test plays the worker and the serving side."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from registry.errors import JobNotFound, ModelInUse, ModelNotFound, QuotaExceeded, Unavailable
from registry.jobs import Jobs
from registry.records import (
    Defaults,
    Group,
    Hyperparameters,
    JobRequest,
    JobStatus,
    Message,
    ModelRecord,
    RewardedResponse,
    utc_now,
)
from registry.revisions import Revisions
from registry.store import ObjectStore
from training.controller import TrainingController
from training.settings import TrainingSettings
from training.types import Assignment, StepProgress

BASE = "base"
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
    now = utc_now()
    return ModelRecord(
        uid=uid,
        id=f"id-of-{uid}",
        name=uid,
        description="",
        base_model=BASE,
        parent_model=BASE,
        rank=8,
        alpha=16,
        dropout=0,
        defaults=Defaults(),
        created=now,
        last_modified=now,
    )


class ServingSide:
    """A Publisher over records in memory. It outlives the controllers of a test, as the real one does."""

    def __init__(self, *models: ModelRecord) -> None:
        self.models = {model.uid: model for model in models}
        self.swaps: list[tuple[str, int]] = []
        self.preloads: list[str] = []
        self.has_gpu = True
        self.num_failures = 0
        self.may_delete = asyncio.Event()
        self.may_delete.set()

    async def model(self, user: str, uid: str) -> ModelRecord:
        if uid not in self.models:
            raise ModelNotFound("there is no such model", "model")
        return self.models[uid]

    async def publish(self, user: str, uid: str, revision: int) -> ModelRecord:
        model = await self.model(user, uid)
        if self.num_failures:
            self.num_failures -= 1
            raise Unavailable("storage cannot be reached")
        if model.latest_revision < revision:
            self.swaps.append((uid, revision))
            model = model.model_copy(update={"revision": revision, "latest_revision": revision})
            self.models[uid] = model
        return model

    async def preload(self, base_model: str, adapter_id: str) -> None:
        self.preloads.append(adapter_id)

    async def lend_gpu(self, base_model: str) -> None:
        self.has_gpu = False

    async def take_back_gpu(self, base_model: str) -> None:
        if self.num_failures:
            self.num_failures -= 1
            raise Unavailable("the replicas cannot be reached")
        self.has_gpu = True

    async def delete(self, user: str, uid: str, base_model: str) -> None:
        await self.may_delete.wait()
        await self.model(user, uid)
        del self.models[uid]


class DyingStore(ObjectStore):
    """Takes `num_writes` writes and then no more, like a controller that died."""

    def __init__(self, store: ObjectStore, num_writes: int) -> None:
        super().__init__(store.settings)
        self.left = num_writes

    @property
    def is_dead(self) -> bool:
        return self.left < 0

    def put(self, key: str, body: bytes) -> None:
        self._count()
        super().put(key, body)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)

    def _count(self) -> None:
        self.left = min(self.left, 1) - 1 if self.is_dead else self.left - 1
        if self.is_dead:
            raise Unavailable("storage cannot be reached")


class World:
    """What outlives a controller: the bucket, the serving side, and the worker's adapter."""

    def __init__(self, store: ObjectStore, adapter: Path) -> None:
        self.store = store
        self.serving = ServingSide(private_model("uid-1"), private_model("uid-2"), private_model("uid-3"))
        self.revisions = Revisions(store)
        self.runs: list[Callable[[], None]] = []
        self._adapter = adapter

    def controller(self, store: ObjectStore | None = None, **settings: Any) -> TrainingController:
        return TrainingController(
            store or self.store,
            self.serving,
            {BASE: TrainingSettings(**settings)},
            lambda base_model, on_end: self.runs.append(on_end),
            max_queued_jobs_per_user=3,
        )

    async def restarted(self, **settings: Any) -> TrainingController:
        controller = self.controller(**settings)
        await controller.recover()
        return controller

    def write_manifest(self, assignment: Assignment) -> None:
        """What a worker does last before it calls `complete`."""
        self.revisions.publish(
            assignment.uid,
            self._adapter,
            revision=assignment.revision,
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


@pytest.fixture
async def world(store: ObjectStore, tmp_path: Path) -> World:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    return World(store, tmp_path)


async def submit(controller: TrainingController, uid: str = "uid-1", user: str = "alice") -> str:
    return (await controller.submit(user, private_model(uid), REQUEST)).id


async def ask(controller: TrainingController) -> Assignment | str:
    """What a worker that has just begun gets."""
    return await controller.next_assignment(BASE, await controller.enter(BASE))


async def assigned(controller: TrainingController) -> Assignment:
    answer = await asyncio.wait_for(ask(controller), 30)
    assert isinstance(answer, Assignment), answer
    return answer


async def ended(
    world: World, controller: TrainingController, job_id: str, user: str = "alice"
) -> list[dict[str, Any]]:
    """The events of a job, when it has ended and its end is saved."""
    events = [json.loads(line) async for line in controller.events(user, job_id, follow=True)]
    await comes_true(lambda: not any(job_id in marker for marker in world.store.list("jobs-active/")))
    return events


def progress(step: int) -> StepProgress:
    numbers = dict.fromkeys(
        ("loss", "kl", "clip_ratio", "grad_norm", "reward_mean", "reward_std", "learning_rate", "seconds"),
        0.5,
    )
    return StepProgress(step=step, steps=5, **numbers)


async def comes_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        for pause_s in itertools.chain([0], itertools.repeat(0.01)):
            await asyncio.sleep(pause_s)
            if condition():
                return


async def idle(controller: TrainingController, uid: str) -> None:
    """Returns when the controller has no job of this model in hand."""
    async with asyncio.timeout(20):
        for pause_s in itertools.chain([0], itertools.repeat(0.01)):
            await asyncio.sleep(pause_s)
            if not await controller.is_training(uid):
                return


def assert_ended_once(events: list[dict[str, Any]], kind: str) -> None:
    ends = [event["type"] for event in events if event["type"] in ("stop", "error")]
    assert ends == [kind]
    assert events[-1]["type"] == kind


# Journeys


async def test_training_makes_the_next_revision(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    assert (await controller.job("alice", job_id)).status == JobStatus.QUEUED
    assignment = await assigned(controller)
    assert (await controller.job("alice", job_id)).status == JobStatus.RUNNING
    assert (assignment.revision, assignment.parent_revision, assignment.attempt) == (1, 0, 1)
    assert not assignment.has_parent_adapter
    assert assignment.request == REQUEST
    await world.train(controller, assignment)
    assert_ended_once(await ended(world, controller, job_id), "stop")
    record = await controller.job("alice", job_id)
    assert (record.status, record.revision, record.step) == (JobStatus.SUCCEEDED, 1, 5)
    assert (record.metrics, record.trained_tokens, record.duration_s) == ({"loss": 0.5}, 42, 1.5)
    assert world.serving.swaps == [("uid-1", 1)]
    assert world.serving.preloads == ["uid-1@1"]
    assert world.store.list("jobs-active/") == []


async def test_stop_carries_the_result(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await world.train(controller, await assigned(controller))
    assert (await ended(world, controller, job_id))[-1] == {
        "type": "stop",
        "stop_reason": "completed",
        "job": job_id,
        "model": "id-of-uid-1",
        "revision": 1,
        "metrics": {"loss": 0.5},
        "usage": {"trained_tokens": 42, "duration": 1.5},
    }


async def test_trainings_of_a_model_run_in_the_order_accepted(world: World) -> None:
    controller = world.controller()
    accepted = [await submit(controller) for _ in range(3)]
    seen = []
    for revision in (1, 2, 3):
        assignment = await assigned(controller)
        assert (assignment.parent_revision, assignment.revision) == (revision - 1, revision)
        assert assignment.has_parent_adapter == (revision > 1)
        seen.append(assignment.job_id)
        await world.train(controller, assignment)
    assert seen == accepted
    assert world.serving.swaps == [("uid-1", 1), ("uid-1", 2), ("uid-1", 3)]


async def test_users_come_in_turn(world: World) -> None:
    controller = world.controller()
    for uid, user in (("uid-1", "alice"), ("uid-1", "alice"), ("uid-2", "bob")):
        await submit(controller, uid, user)
    users = []
    for _ in range(3):
        assignment = await assigned(controller)
        users.append(assignment.user)
        await world.train(controller, assignment)
    assert users == ["alice", "bob", "alice"]


async def test_training_goes_on_from_the_active_revision(world: World) -> None:
    controller = world.controller()
    model = world.serving.models["uid-1"]
    world.serving.models["uid-1"] = model.model_copy(update={"revision": 2, "latest_revision": 7})
    await submit(controller)
    assignment = await assigned(controller)
    assert (assignment.parent_revision, assignment.revision) == (2, 8)


async def test_preload_that_fails_does_not_fail_the_training(world: World) -> None:
    class Broken(ServingSide):
        async def preload(self, base_model: str, adapter_id: str) -> None:
            raise RuntimeError("no replica")

    world.serving = Broken(private_model())
    controller = world.controller()
    job_id = await submit(controller)
    await world.train(controller, await assigned(controller))
    assert_ended_once(await ended(world, controller, job_id), "stop")


async def test_failed_training_ends_with_its_error(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    await controller.fail(job_id, assignment.attempt, "training_failed", "no luck")
    events = await ended(world, controller, job_id)
    assert_ended_once(events, "error")
    assert events[-1]["error"] == {
        "type": "server_error",
        "code": "training_failed",
        "message": "no luck",
        "param": None,
    }
    record = await controller.job("alice", job_id)
    assert (record.status, record.revision) == (JobStatus.FAILED, None)
    assert record.error is not None and record.error.message == "no luck"


async def test_failed_training_lets_the_next_one_make_its_revision(world: World) -> None:
    controller = world.controller()
    await submit(controller)
    second = await submit(controller)
    first = await assigned(controller)
    await controller.fail(first.job_id, first.attempt, "training_failed", "no luck")
    assignment = await assigned(controller)
    assert (assignment.job_id, assignment.revision) == (second, 1)


# Crashes


async def finish_all(world: World, controller: TrainingController, job_id: str) -> list[dict[str, Any]]:
    """Play a worker that asks until the job has ended."""
    following = asyncio.ensure_future(ended(world, controller, job_id))
    while not following.done():
        asking = asyncio.ensure_future(ask(controller))
        await asyncio.wait({asking, following}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        if asking.done() and isinstance(asking.result(), Assignment):
            await world.train(controller, asking.result())
        asking.cancel()
    return await following


@pytest.mark.parametrize("num_writes", range(12))
async def test_job_happens_once_wherever_the_controller_dies(world: World, num_writes: int) -> None:
    """The writes of a whole job are counted through; the controller dies before each in turn."""
    dying = DyingStore(world.store, num_writes)
    controller = world.controller(dying)
    accepted: str | None = None
    try:
        accepted = await submit(controller)
        assignment = await assigned(controller)
        await controller.progress(accepted, assignment.attempt, progress(1))
        await world.train(controller, assignment)
        async for _ in controller.events("alice", accepted, follow=True):
            pass
        await comes_true(lambda: dying.is_dead or world.store.list("jobs-active/") == [])
    except Unavailable:
        pass
    after = await world.restarted(idle_timeout_s=0.1)
    if accepted is None:
        assert await after.list_jobs("alice", None, None, None, 10) == []
        assert await ask(after) == "leave"
        return
    assert_ended_once(await finish_all(world, after, accepted), "stop")
    assert world.serving.swaps == [("uid-1", 1)]
    assert world.jobs_of_revisions("uid-1") == [accepted]
    assert (await after.job("alice", accepted)).status == JobStatus.SUCCEEDED
    assert world.store.list("jobs-active/") == []


async def test_job_of_a_dead_controller_gets_a_new_attempt(world: World) -> None:
    job_id = await submit(world.controller())
    before = await world.restarted()
    first = await assigned(before)
    second = await assigned(await world.restarted())
    assert (second.job_id, second.attempt, second.revision) == (job_id, first.attempt + 1, first.revision)


async def test_revision_written_before_the_crash_is_published_without_training(world: World) -> None:
    before = world.controller()
    job_id = await submit(before)
    world.write_manifest(await assigned(before))
    after = await world.restarted(idle_timeout_s=0.1)
    assert await ask(after) == "leave"
    assert_ended_once(await ended(world, after, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]


async def test_catalogue_swapped_before_the_crash_is_not_swapped_again(world: World) -> None:
    before = world.controller()
    job_id = await submit(before)
    world.write_manifest(await assigned(before))
    await world.serving.publish("alice", "uid-1", 1)
    after = await world.restarted(idle_timeout_s=0.1)
    assert await ask(after) == "leave"
    assert_ended_once(await ended(world, after, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]


async def test_order_survives_a_crash(world: World) -> None:
    before = world.controller()
    accepted = [await submit(before) for _ in range(3)]
    after = await world.restarted()
    seen = []
    for _ in accepted:
        assignment = await assigned(after)
        seen.append(assignment.job_id)
        await world.train(after, assignment)
    assert seen == accepted


async def test_recovery_starts_a_run(world: World) -> None:
    await submit(world.controller())
    world.runs.clear()
    await world.restarted()
    assert len(world.runs) == 1


async def test_events_of_a_finished_job_are_read_from_the_bucket(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await world.train(controller, await assigned(controller))
    live = await ended(world, controller, job_id)
    after = await world.restarted()
    lines = [line async for line in after.events("alice", job_id, follow=True)]
    assert [json.loads(line) for line in lines] == live
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)


async def test_attempts_before_a_crash_count(world: World) -> None:
    job_id = await submit(world.controller())
    for _ in range(2):
        await assigned(await world.restarted(max_attempts=2))
    after = await world.restarted(max_attempts=2, idle_timeout_s=0.1)
    assert await ask(after) == "leave"
    assert_ended_once(await ended(world, after, job_id), "error")


# Attempts


async def test_lost_worker_gets_its_job_again(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await submit(controller, "uid-2", "bob")
    first, second = await assigned(controller), await assigned(controller)
    assert [first.job_id, second.job_id] == [job_id, job_id]
    assert [first.attempt, second.attempt] == [1, 2]
    assert second.revision == first.revision


async def test_job_fails_after_its_last_attempt(world: World) -> None:
    controller = world.controller(max_attempts=2, idle_timeout_s=0.1)
    job_id = await submit(controller)
    await assigned(controller)
    await assigned(controller)
    assert await ask(controller) == "leave"
    events = await ended(world, controller, job_id)
    assert_ended_once(events, "error")
    assert events[-1]["error"]["code"] == "training_failed"
    assert (await controller.job("alice", job_id)).status == JobStatus.FAILED


async def test_a_long_job_outlives_many_workers_while_it_gets_further(world: World) -> None:
    controller = world.controller(max_attempts=2, idle_timeout_s=0.1)
    job_id = await submit(controller)
    for step in (1, 2, 3):
        await controller.progress(job_id, (await assigned(controller)).attempt, progress(step))
    for step in (2, 3):
        await controller.progress(job_id, (await assigned(controller)).attempt, progress(step))
    assert await ask(controller) == "leave"
    assert_ended_once(await ended(world, controller, job_id), "error")


async def test_reports_of_a_given_up_attempt_are_refused(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    stale = await assigned(controller)
    await assigned(controller)
    for report in (
        controller.progress(job_id, stale.attempt, progress(1)),
        controller.inform(job_id, stale.attempt, "late"),
        controller.complete(job_id, stale.attempt),
        controller.fail(job_id, stale.attempt, "training_failed", "late"),
    ):
        with pytest.raises(JobNotFound):
            await report
    assert (await controller.job("alice", job_id)).step == 0


async def test_reports_of_an_attempt_before_a_crash_are_refused(world: World) -> None:
    job_id = await submit(world.controller())
    stale = await assigned(await world.restarted())
    after = await world.restarted()
    with pytest.raises(JobNotFound):
        await after.fail(job_id, stale.attempt, "training_failed", "late")


async def test_worker_that_entered_with_an_earlier_controller_is_to_leave(world: World) -> None:
    before = world.controller()
    orphan = await before.enter(BASE)
    await submit(before)
    assert isinstance(await before.next_assignment(BASE, orphan), Assignment)
    after = await world.restarted()
    assignment = await assigned(after)
    assert await after.next_assignment(BASE, orphan) == "leave"
    assert not await after.inform(assignment.job_id, assignment.attempt, "not disturbed")


async def test_complete_without_a_manifest_is_refused(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    with pytest.raises(JobNotFound):
        await controller.complete(job_id, assignment.attempt)
    assert world.serving.swaps == []


async def test_complete_twice_publishes_once(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    world.write_manifest(assignment)
    answers = await asyncio.gather(
        *(controller.complete(job_id, assignment.attempt) for _ in range(3)), return_exceptions=True
    )
    assert all(answer is None or isinstance(answer, JobNotFound) for answer in answers)
    assert_ended_once(await ended(world, controller, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]
    assert world.serving.preloads == ["uid-1@1"]


async def test_late_work_of_a_given_up_job_is_discarded(world: World) -> None:
    controller = world.controller(max_attempts=1, idle_timeout_s=0.1)
    given_up = await submit(controller)
    late = await assigned(controller)
    assert await ask(controller) == "leave"
    await ended(world, controller, given_up)
    world.write_manifest(late)
    job_id = await submit(controller)
    assignment = await assigned(controller)
    assert assignment.revision == late.revision
    await world.train(controller, assignment)
    assert_ended_once(await ended(world, controller, job_id), "stop")
    assert world.jobs_of_revisions("uid-1") == [job_id]


async def test_storage_away_during_publish_delays_it_only(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    world.serving.num_failures = 2
    await world.train(controller, await assigned(controller))
    assert_ended_once(await ended(world, controller, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]


async def test_worker_lost_during_publish_does_not_train_again(world: World) -> None:
    controller = world.controller(idle_timeout_s=0.1)
    job_id = await submit(controller)
    world.serving.num_failures = 1
    completing = asyncio.ensure_future(world.train(controller, await assigned(controller)))
    await comes_true(lambda: world.serving.num_failures == 0)
    completing.cancel()
    assert await ask(controller) == "leave"
    assert_ended_once(await ended(world, controller, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]


@pytest.mark.parametrize("num_writes", range(5))
async def test_training_that_was_said_to_have_failed_never_runs_again(world: World, num_writes: int) -> None:
    dying = DyingStore(world.store, 100)
    controller = world.controller(dying)
    job_id = await submit(controller)
    assignment = await assigned(controller)
    dying.left = num_writes
    failing = asyncio.ensure_future(controller.fail(job_id, assignment.attempt, "training_failed", "no luck"))
    await comes_true(lambda: dying.is_dead)
    told = [json.loads(line) async for line in controller.events("alice", job_id, follow=False)]
    failing.cancel()
    after = await world.restarted(idle_timeout_s=0.1)
    answer = await ask(after)
    if told[-1]["type"] == "error":
        assert answer == "leave"
        assert_ended_once(await ended(world, after, job_id), "error")
    else:
        assert num_writes < 2


async def test_storage_away_at_the_assignment_keeps_the_job(world: World) -> None:
    dying = DyingStore(world.store, 3)
    controller = world.controller(dying)
    job_id = await submit(controller)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await ask(controller)
    assert (await assigned(await world.restarted())).job_id == job_id


# Events


async def next_line(lines: AsyncIterator[str]) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(anext(lines), 10))  # type: ignore[no-any-return]


async def test_follower_sees_the_past_and_then_what_comes(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    await controller.progress(job_id, 1, progress(1))
    lines = controller.events("alice", job_id, follow=True)
    assert await next_line(lines) == {"type": "info", "message": "Queued"}
    assert await next_line(lines) == {"type": "progress", **progress(1).model_dump()}
    waiting = asyncio.ensure_future(next_line(lines))
    await asyncio.sleep(0)
    assert not waiting.done()
    await controller.progress(job_id, 1, progress(2))
    assert (await waiting)["step"] == 2
    await world.train(controller, assignment)
    rest = [json.loads(line) async for line in lines]
    assert rest[-1]["type"] == "stop"
    assert rest == (await ended(world, controller, job_id))[-len(rest) :]


async def test_events_without_follow_end_at_the_present(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    lines = [line async for line in controller.events("alice", job_id, follow=False)]
    assert [json.loads(line)["message"] for line in lines] == ["Queued"]


async def test_progress_is_shown_and_saved(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await assigned(controller)
    await controller.progress(job_id, 1, progress(3))
    assert (await controller.job("alice", job_id)).step == 3


async def test_progress_is_in_the_bucket_soon(world: World) -> None:
    """Of steps that come close to each other, the last too, though no other one follows."""
    controller = world.controller()
    job_id = await submit(controller)
    await assigned(controller)
    for step in (1, 2, 3):
        await controller.progress(job_id, 1, progress(step))
    jobs = Jobs(world.store)
    await comes_true(lambda: jobs.load("alice", job_id).step == 3)
    assert '"step":3' in jobs.load_events("alice", job_id)[-1]


async def test_crash_after_the_manifest_loses_no_step(world: World) -> None:
    """Progress is saved once a second at most; what is not trained again cannot be told again."""
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    for step in range(1, 6):
        await controller.progress(job_id, assignment.attempt, progress(step))
    await controller.inform(job_id, assignment.attempt, "Saving revision 1")
    world.write_manifest(assignment)
    after = await world.restarted(idle_timeout_s=0.1)
    assert await ask(after) == "leave"
    events = await ended(world, after, job_id)
    assert [event["step"] for event in events if event["type"] == "progress"] == [1, 2, 3, 4, 5]


async def test_crash_between_stop_and_end_shows_one_stop(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    world.write_manifest(await assigned(controller))
    stop = json.dumps({"type": "stop", "stop_reason": "completed"})
    Jobs(world.store).save_events("alice", job_id, ['{"type": "info", "message": "Queued"}', stop])
    after = await world.restarted(idle_timeout_s=0.1)
    assert await ask(after) == "leave"
    assert_ended_once(await ended(world, after, job_id), "stop")


# Models and users


async def test_model_in_training_is_not_deleted(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    with pytest.raises(ModelInUse):
        await controller.delete_model("alice", private_model())
    await world.train(controller, await assigned(controller))
    await ended(world, controller, job_id)
    await idle(controller, "uid-1")
    await controller.delete_model("alice", private_model())
    assert "uid-1" not in world.serving.models


async def test_training_accepted_at_the_same_moment_stops_the_deletion(world: World) -> None:
    controller = world.controller()
    accepted, deleted = await asyncio.gather(
        submit(controller), controller.delete_model("alice", private_model()), return_exceptions=True
    )
    assert isinstance(accepted, str)
    assert isinstance(deleted, ModelInUse)


async def test_training_is_refused_while_its_model_is_deleted(world: World) -> None:
    controller = world.controller()
    world.serving.may_delete.clear()
    deleting = asyncio.ensure_future(controller.delete_model("alice", private_model()))
    await asyncio.sleep(0)
    with pytest.raises(ModelNotFound):
        await submit(controller)
    world.serving.may_delete.set()
    await deleting
    assert world.store.list("jobs") == []


async def test_job_of_a_deleted_model_fails_and_the_next_goes_on(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await submit(controller, "uid-2", "bob")
    del world.serving.models["uid-1"]
    assert (await assigned(controller)).uid == "uid-2"
    assert (await ended(world, controller, job_id))[-1]["error"]["code"] == "model_not_found"


async def test_quota_counts_one_users_unfinished_jobs(world: World) -> None:
    controller = world.controller()
    for uid in ("uid-1", "uid-2", "uid-3"):
        await submit(controller, uid)
    with pytest.raises(QuotaExceeded):
        await submit(controller)
    await submit(controller, "uid-4", "bob")
    await world.train(controller, await assigned(controller))
    await idle(controller, "uid-1")
    await submit(controller)


async def test_quota_holds_against_submissions_at_once(world: World) -> None:
    controller = world.controller()
    answers = await asyncio.gather(*(submit(controller) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 3


@pytest.mark.parametrize("is_finished", [False, True])
async def test_job_of_another_user_is_not_found(world: World, is_finished: bool) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    if is_finished:
        await world.train(controller, await assigned(controller))
        await ended(world, controller, job_id)
    with pytest.raises(JobNotFound) as foreign:
        await controller.job("bob", job_id)
    with pytest.raises(JobNotFound) as absent:
        await controller.job("bob", "job-" + "0" * 24)
    assert foreign.value.args == absent.value.args
    with pytest.raises(JobNotFound):
        await anext(controller.events("bob", job_id, follow=True))
    assert await controller.list_jobs("bob", None, None, None, 10) == []


async def test_submission_that_storage_refused_leaves_nothing(world: World) -> None:
    controller = world.controller(DyingStore(world.store, 1))
    with pytest.raises(Unavailable):
        await submit(controller)
    await idle(controller, "uid-1")
    assert world.runs == []


# Listing


async def listed(controller: TrainingController, *arguments: Any) -> list[str]:
    return [record.id for record in await controller.list_jobs("alice", *arguments)]


async def test_jobs_are_listed_newest_first_in_pages(world: World) -> None:
    controller = world.controller()
    accepted = [await submit(controller, uid) for uid in ("uid-1", "uid-2", "uid-3")]
    newest = accepted[::-1]
    assert await listed(controller, None, None, None, 10) == newest
    assert await listed(controller, None, None, None, 2) == newest[:2]
    assert await listed(controller, None, None, newest[1], 2) == newest[2:]
    assert await listed(controller, None, None, newest[2], 2) == []


async def test_jobs_are_listed_by_model_and_status(world: World) -> None:
    controller = world.controller()
    one, two, other = [await submit(controller, uid) for uid in ("uid-1", "uid-1", "uid-2")]
    await world.train(controller, await assigned(controller))
    await ended(world, controller, one)
    assert await listed(controller, "id-of-uid-1", None, None, 10) == [two, one]
    assert await listed(controller, None, JobStatus.SUCCEEDED, None, 10) == [one]
    assert await listed(controller, "id-of-uid-1", JobStatus.QUEUED, None, 10) == [two]
    assert await listed(controller, None, JobStatus.QUEUED, None, 1) == [other]
    assert await listed(controller, "id-of-uid-1", None, None, 1) == [two]
    assert await listed(controller, "nothing", None, None, 10) == []


async def test_malformed_after_is_not_found(world: World) -> None:
    with pytest.raises(JobNotFound):
        await world.controller().list_jobs("alice", None, None, "../bob", 10)


# Runs


async def test_run_that_ends_with_work_queued_is_started_again(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await assigned(controller)
    assert len(world.runs) == 1
    world.runs[0]()
    await comes_true(lambda: len(world.runs) == 2)
    again = await assigned(controller)
    assert (again.job_id, again.attempt) == (job_id, 2)


async def test_idle_run_leaves_and_the_next_job_starts_one(world: World) -> None:
    controller = world.controller(idle_timeout_s=0.1)
    await submit(controller)
    await world.train(controller, await assigned(controller))
    assert await ask(controller) == "leave"
    world.runs[0]()
    await submit(controller)
    assert len(world.runs) == 2

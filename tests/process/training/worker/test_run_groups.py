"""A training run leaves nothing reserved in Ray, however the process that started it ends.

Ray and Ray Train are real. The CPUs are only numbers, and a group of this test takes all of them.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.util import placement_group, placement_group_table, remove_placement_group

from registry.settings import StorageSettings
from tests.support.waiting import wait_until
from training.runs import groups_of
from training.settings import TrainingSettings
from training.worker.loop import EndRun, RunConfiguration, start_run
from training.worker.run_groups import remove_groups

NUM_CPUS = 4
BASE = "base"
APPLICATION = "tiger"
OURS = groups_of(APPLICATION, BASE)
LIVING = ("PENDING", "PREPARED", "CREATED", "RESCHEDULING")
PLACED = ("CREATED",)
START_TIMEOUT_S = 120
"""The time for a start on a busy machine. The process of the Trainer and the controller import torch."""


@ray.remote(num_cpus=0)
class TrainerProcess:
    """The process of a Trainer, which has one run."""

    async def start(self) -> int:
        """Start the run and return the id of this process."""
        self._has_ended = asyncio.Event()

        def on_end(failure: str | None = None) -> None:
            self._has_ended.set()

        self._end: EndRun = start_run(
            RunConfiguration(
                base_model=BASE,
                weights="/nowhere",
                max_context_tokens=64,
                settings=TrainingSettings(cpus_per_worker=2),
                storage=StorageSettings(),
                application=APPLICATION,
                controller="Trainer",
            ),
            on_end,
        )
        return os.getpid()

    async def recover(self) -> None:
        """Do what a Trainer does first."""
        await asyncio.to_thread(remove_groups, groups_of(APPLICATION))

    async def stop(self) -> None:
        """End the run as a Trainer does that is stopped. Returns when the run has said that it ended."""
        await asyncio.to_thread(self._end)
        await self._has_ended.wait()


@pytest.fixture(scope="module", autouse=True)
def own_ray() -> Iterator[None]:
    with (
        pytest.MonkeyPatch.context() as environment,
        tempfile.TemporaryDirectory(prefix="tiger-", dir="/tmp", ignore_cleanup_errors=True) as directory,
    ):
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            environment.delenv(name)
        environment.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(
            address="local",
            num_cpus=NUM_CPUS,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=128 * 2**20,
            _temp_dir=directory,
        )
        try:
            yield
        finally:
            ray.shutdown()


@pytest.fixture(scope="module")
def successor(own_ray: None) -> Any:
    """The process of the next Trainer."""
    return TrainerProcess.remote()  # type: ignore[attr-defined]


def groups(beginning: str, states: tuple[str, ...] = LIVING) -> list[str]:
    """The ids of the placement groups whose names begin so and which are in one of these states."""
    return [
        group_id
        for group_id, group in placement_group_table().items()
        if group["name"].startswith(beginning) and group["state"] in states
    ]


def is_all_free() -> bool:
    return ray.available_resources().get("CPU") == NUM_CPUS


@pytest.fixture
def everything() -> Iterator[Any]:
    """A placement group of somebody else that has all CPUs."""
    group = placement_group([{"CPU": NUM_CPUS}])
    assert group.wait(30)
    yield group
    remove_placement_group(group)


def pending_run(trainer: Any) -> int:
    """Start a run on a Ray that is full; returns the id of the Trainer's process."""
    process: int = ray.get(trainer.start.remote())
    wait_until(lambda: len(groups(OURS, ("PENDING",))) == 1, START_TIMEOUT_S)
    return process


def test_group_that_waits_when_its_trainer_is_killed_is_removed_by_the_next_one(
    everything: Any, successor: Any
) -> None:
    of_another = placement_group([{"CPU": NUM_CPUS}], name=f"{groups_of('another')}{BASE}#1")
    killed = TrainerProcess.remote()  # type: ignore[attr-defined]
    os.kill(pending_run(killed), signal.SIGKILL)
    ray.get(successor.recover.remote())
    wait_until(lambda: not groups(groups_of(APPLICATION)), 30)
    assert len(groups(groups_of("another"))) == 1, "the group of another application stays"
    remove_placement_group(of_another)
    remove_placement_group(everything)
    wait_until(is_all_free, 30)

    ray.get(successor.start.remote())
    wait_until(lambda: len(groups(OURS, PLACED)) == 1, START_TIMEOUT_S)
    ray.get(successor.stop.remote())
    wait_until(lambda: is_all_free() and not groups(OURS), 30)


def test_run_that_waits_ends_with_its_trainer(everything: Any, successor: Any) -> None:
    pending_run(successor)
    ray.get(successor.stop.remote())
    wait_until(lambda: not groups(OURS), 30)
    remove_placement_group(everything)
    wait_until(is_all_free, 30)

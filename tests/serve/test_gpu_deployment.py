"""The GPU configurations on a Ray whose GPUs are only numbers: every part finds its place, and answers."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray

from tests.support.gpu_application import GpuApplication, running_gpus
from tests.support.service import Account, chunks_of, wait_until

MODELS = ("deepseek-r1-8b", "llama-3.1-8b")


@ray.remote
class Occupant:
    """A program of somebody else that has GPUs."""

    def is_there(self) -> bool:
        return True


def occupy(num_gpus: int) -> Any:
    occupant = Occupant.options(num_gpus=num_gpus, num_cpus=0).remote()  # type: ignore[attr-defined]
    assert ray.get(occupant.is_there.remote())
    return occupant


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuApplication]:
    with running_gpus(tmp_path_factory.mktemp("gpus")) as application:
        yield application


def train(account: Account, base_model: str) -> list[dict[str, Any]]:
    name = account.create(f"Copy of {base_model}", parent=base_model)["id"]
    return chunks_of(account.train(name, stream=True))


def used_gpus(account: Account) -> dict[str, set[str]]:
    """The GPUs on which the base models answered and their copies were trained."""
    serving = {str(account.generate(model=name).json()["message"]["content"]) for name in MODELS}
    with ThreadPoolExecutor() as pool:
        ends = [chunks[-1] for chunks in pool.map(lambda name: train(account, name), MODELS)]
    assert [end["type"] for end in ends] == ["stop", "stop"], json.dumps(ends)
    return {"serving": serving, "training": {f"{end['metrics']['loss']:.0f}" for end in ends}}


def test_gpu_configurations_find_their_places_and_answer(gpus: GpuApplication) -> None:
    gpus.deploy("one-gpu")
    wait_until(lambda: gpus.readiness()[0], 120)
    used = used_gpus(gpus.account())
    assert used["serving"] == used["training"]
    assert len(used["serving"]) == 1

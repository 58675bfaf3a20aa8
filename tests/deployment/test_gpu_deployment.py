"""The GPU configurations on a Ray whose GPUs are only numbers: every part finds its place, and answers."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray
from vllm.engine.arg_utils import AsyncEngineArgs

from serve_app.app import BaseModelArguments, CoreArguments, build_app, build_base_model, llm_config
from serve_app.deployment_options import APPLICATION
from serve_app.serve_config import serve_config
from serve_app.settings import CONFIG_DIRECTORY, load_settings, read_document
from tests.support.account import Account, chunks_of
from tests.support.gpu_application import NUM_GPUS, GpuApplication, running_gpus
from tests.support.ray_private import initialization_of, vllm_arguments
from tests.support.waiting import wait_until
from training.runs import groups_of

MODELS = ("deepseek-r1-8b", "llama-3.1-8b")
START_TIMEOUT_S = 240
"""The time for a start on a busy machine, which imports vLLM in each replica."""


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


def used_gpus(account: Account) -> list[set[str]]:
    """The GPUs on which the base models answered, and those on which their copies were trained."""
    answers = [account.generate(model=name) for name in MODELS]
    with ThreadPoolExecutor() as pool:
        ends = [chunks[-1] for chunks in pool.map(lambda name: train(account, name), MODELS)]
    assert [end["type"] for end in ends] == ["stop", "stop"], json.dumps(ends)
    return [
        {answer.json()["message"]["content"] for answer in answers},
        {f"{end['metrics']['loss']:.0f}" for end in ends},
    ]


def training_groups() -> list[str]:
    """The names of the placement groups that training runs have or wait for."""
    table = ray.util.placement_group_table().values()
    names = [group["name"] for group in table if group["state"] != "REMOVED"]
    return [name for name in names if name.startswith(groups_of(APPLICATION))]


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIG_DIRECTORY.glob("*.yaml")))
def test_vllm_knows_every_engine_argument_of_a_configuration(gpus: GpuApplication, name: str) -> None:
    """A replica makes vLLM's arguments in the same way when it starts."""
    core, *base_models = serve_config(read_document(name))["applications"]
    assert build_app(CoreArguments(**core["args"])) is not None
    for application in base_models:
        assert build_base_model(BaseModelArguments(**application["args"])) is not None
    settings = load_settings(name)
    for model in settings.models:
        arguments = AsyncEngineArgs(**vllm_arguments(initialization_of(llm_config(model, settings))))
        assert arguments.max_model_len == model.max_context_tokens
        assert arguments.distributed_executor_backend == "mp", "its workers are processes of the replica"


def test_one_gpu_has_place_for_both_models_and_their_trainers(gpus: GpuApplication) -> None:
    gpus.deploy("one-gpu")
    wait_until(lambda: gpus.readiness()[0], START_TIMEOUT_S)
    serving, training = used_gpus(gpus.account())
    assert serving == training
    assert len(serving) == 1


def test_what_has_no_place_says_so_and_goes_on_when_there_is_place(gpus: GpuApplication) -> None:
    """Two replicas and two trainers need all GPUs. Others leave their GPUs one after the other."""
    replicas_wait, trainers_wait = occupy(1), occupy(2)
    gpus.deploy("gpu")
    wait = f"has no replica that answers: it waits for 1 GPU (0 of {NUM_GPUS} free)"
    wait_until(lambda: sum(f"{name} {wait}" in gpus.readiness()[1] for name in MODELS) == 1, START_TIMEOUT_S)
    ray.kill(replicas_wait)
    wait_until(lambda: gpus.readiness()[0], START_TIMEOUT_S)
    wait_until(lambda: training_groups() == [], START_TIMEOUT_S)  # those of the configuration before
    account = gpus.account()
    name = account.create("Waiting", parent=MODELS[0])["id"]
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    responses = [{"content": "good", "reward": 1.0}, {"content": "bad", "reward": 0.0}]
    lines: list[dict[str, Any]] = []
    with account.http.stream(
        "POST", "/v1/train", json={"model": name, "stream": True, "responses": responses, **body}
    ) as stream:
        for line in stream.iter_lines():
            lines.append(json.loads(line))
            if f"The training waits for 1 GPU (0 of {NUM_GPUS} free)" in lines[-1].get("message", ""):
                ray.kill(trainers_wait)
    assert lines[-1]["type"] == "stop", lines
    serving, training = used_gpus(account)
    assert len(serving | training) == NUM_GPUS

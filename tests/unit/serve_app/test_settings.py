import os
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from serve_app.api.model_listing import base_infos
from serve_app.settings import CONFIG_DIRECTORY, Settings, load_settings

LEAST = """
default_model: base
models:
  - {id: base, name: Base, description: "", last_modified: 2025-01-01T00:00:00Z,
     source: /x, max_context_tokens: 64}
"""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TIGER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "own.yaml"


def load(path: Path, more: str = "", least: str = LEAST) -> Settings:
    path.write_text(least + more)
    return load_settings(str(path))


def test_file_is_over_default(path: Path) -> None:
    settings = load(path, "http: {port: 8001}")
    assert (settings.http.port, settings.http.host) == (8001, "127.0.0.1")


def test_environment_is_over_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGER_HTTP__PORT", "8002")
    monkeypatch.setenv("TIGER_STORAGE__BUCKET", "other")
    settings = load(path, "http: {port: 8001, host: 0.0.0.0}\nstorage: {prefix: p/}")
    assert (settings.http.port, settings.http.host) == (8002, "0.0.0.0")
    assert (settings.storage.bucket, settings.storage.prefix) == ("other", "p/")


@pytest.mark.parametrize(
    "more", ["colour: red", "http: {prot: 1}", "storage: {secret: x}", "limits: {max_models: 3}"]
)
def test_unknown_key_of_the_file_is_refused(path: Path, more: str) -> None:
    with pytest.raises(ValidationError):
        load(path, more)


def test_unknown_key_of_a_model_is_refused(path: Path) -> None:
    with pytest.raises(ValidationError):
        load(path, least=LEAST.replace("source:", "sauce:"))


def test_unknown_key_of_a_section_in_the_environment_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIGER_HTTP__PROT", "1")
    with pytest.raises(ValidationError):
        load(path)


def test_settings_are_frozen(path: Path) -> None:
    settings = load(path)
    with pytest.raises(ValidationError):
        settings.default_model = "other"
    with pytest.raises(ValidationError):
        settings.http.port = 1


def test_default_model_must_exist(path: Path) -> None:
    with pytest.raises(ValidationError, match="default_model"):
        load(path, least=LEAST.replace("default_model: base", "default_model: bass"))


def test_two_base_models_of_one_name_are_refused(path: Path) -> None:
    twice = yaml.safe_load(LEAST)
    twice["models"].append(twice["models"][0] | {"id": "other"})
    with pytest.raises(ValidationError, match="unique"):
        load(path, least=yaml.safe_dump(twice))


def test_directory_of_the_environment_takes_the_place_of_the_source(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIGER_MODEL_PATHS", '{"base": "/models/base"}')
    assert load(path).models[0].source == "/models/base"


@pytest.mark.parametrize("paths", ["{other: /models/x}", "{base: models/x}"])
def test_directory_of_no_model_or_without_a_root_is_refused(path: Path, paths: str) -> None:
    with pytest.raises(ValidationError, match="model_paths"):
        load(path, f"model_paths: {paths}")


def test_rank_above_the_maximum_is_refused(path: Path) -> None:
    with pytest.raises(ValidationError, match="max_rank"):
        load(path, least=LEAST.replace("source:", "rank: 64, source:"))


@pytest.mark.parametrize(
    ("model", "limits"),
    [
        ("defaults: {learning_rate: 0.1}", "max_learning_rate: 0.01"),
        ("defaults: {beta: 3}", "max_beta: 2"),
        ("rank: 16", "max_alpha: 31"),
    ],
)
def test_base_model_is_within_the_limits(path: Path, model: str, limits: str) -> None:
    load(path, least=LEAST.replace("source:", f"{model}, source:"))
    with pytest.raises(ValidationError, match=limits.partition(":")[0]):
        load(path, f"limits: {{{limits}}}", least=LEAST.replace("source:", f"{model}, source:"))


PART = """serving: {gpus_per_replica: 0.5, engine: {gpu_memory_utilization: 0.9}},
     training: {use_gpu: true, share_gpu: true, gpus_per_worker: 0.5, gpu_memory_utilization: 0.9}, source:"""


def test_models_that_do_not_fit_on_one_gpu_are_refused(path: Path) -> None:
    one = LEAST.replace("source:", PART)
    assert load(path, least=one).models[0].serving.num_gpus == 0.5
    two = yaml.safe_load(one)
    two["models"].append(two["models"][0] | {"id": "other", "name": "Other"})
    with pytest.raises(ValidationError, match="add up to 2 GPUs"):
        load(path, least=yaml.safe_dump(two))


@pytest.mark.parametrize(
    ("serving", "num_gpus"),
    [
        ("{}", 1),
        ("{accelerator: {kind: cpu}}", 0),
        ("{engine: {tensor_parallel_size: 2}}", 2),
        ("{engine: {tensor_parallel_size: 2, pipeline_parallel_size: 2}, gpus_per_replica: 4}", 4),
        ("{gpus_per_replica: 0.25, engine: {gpu_memory_utilization: 0.4}}", 0.25),
    ],
)
def test_replica_has_the_gpus_that_its_engine_needs(path: Path, serving: str, num_gpus: float) -> None:
    settings = load(path, least=LEAST.replace("source:", f"serving: {serving}, source:"))
    assert settings.models[0].serving.num_gpus == num_gpus


@pytest.mark.parametrize(
    "more",
    [
        "serving: {gpus_per_replica: 2}",
        "serving: {gpus_per_replica: 0.5, engine: {tensor_parallel_size: 2}}",
        "training: {use_gpu: true, gpus_per_worker: 0.5, num_workers: 2}",
    ],
)
def test_parts_of_gpus_that_the_engine_or_the_workers_cannot_use_are_refused(path: Path, more: str) -> None:
    with pytest.raises(ValidationError, match="gpus_per_"):
        load(path, least=LEAST.replace("source:", f"{more}, source:"))


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_settings(str(tmp_path / "absent.yaml"))
    with pytest.raises(FileNotFoundError):
        load_settings("absent")


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIG_DIRECTORY.glob("*.yaml")))
def test_shipped_configuration_loads(name: str) -> None:
    assert load_settings(name).models


@pytest.mark.parametrize("name", ["gpu", "one-gpu"])
def test_gpu_configuration_lists_the_models_of_the_seed(name: str) -> None:
    """The values are those of the reference listing, whose `deppseek-r1-8b` is a slip of the pen."""
    common = {
        "read_only": True,
        "revision": 0,
        "temperature": 0.7,
        "top_p": 0.95,
        "learning_rate": 0.00001,
        "learning_steps": 5,
        "beta": 0.04,
        "epsilon": 0.2,
    }
    listing = [info.model_dump(mode="json", exclude_none=True) for info in base_infos(load_settings(name))]
    assert listing == [
        {
            "name": "DeepSeek-R1-8b",
            "id": "deepseek-r1-8b",
            "description": "LLM for advanced reasoning, math, and code tasks.",
            "last_modified": "2025-02-02T12:34:58.488Z",
            "default_model": True,
            **common,
        },
        {
            "name": "Llama-3.1-8b",
            "id": "llama-3.1-8b",
            "description": "Multilingual large language model from Meta",
            "last_modified": "2025-03-14T13:42:48.942Z",
            "default_model": False,
            **common,
        },
    ]


@pytest.mark.parametrize("name", ["gpu", "one-gpu"])
def test_gpu_configuration_takes_the_weights_of_the_makers(name: str) -> None:
    sources = {model.id: model.source for model in load_settings(name).models}
    assert sources == {
        "deepseek-r1-8b": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
        "llama-3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    }

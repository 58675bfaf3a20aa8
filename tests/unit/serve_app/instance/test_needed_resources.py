"""The resources that an installation reserves, against those of the nodes."""

import pytest

from serve_app.app import ENGINE_BUNDLE
from serve_app.instance.needed_resources import ENGINE_CPUS, shortages
from serve_app.settings import Settings, load_settings


@pytest.fixture
def local() -> Settings:
    return load_settings("local")


def test_cpus_of_the_engine_are_those_that_a_replica_reserves() -> None:
    assert ENGINE_BUNDLE == {"CPU": ENGINE_CPUS}


def test_nodes_that_suffice_are_not_mentioned(local: Settings) -> None:
    assert shortages(local, {"CPU": 4}) == []


def test_too_few_cpus_are_told_with_those_who_need_them(local: Settings) -> None:
    (line,) = shortages(local, {"CPU": 2})
    assert "have 2 CPUs" in line and "reserve 3 (Ingress 1, base model smollm2-135m 2)" in line
    assert "--num-cpus" in line


def test_training_that_finds_no_cpu_is_told(local: Settings) -> None:
    (line,) = shortages(local, {"CPU": 3})
    assert "the training of smollm2-135m waits" in line


def test_too_few_gpus_are_told() -> None:
    (line,) = shortages(load_settings("gpu"), {"CPU": 64, "GPU": 1})
    assert "have 1 GPUs" in line and "--num-gpus" in line
    assert shortages(load_settings("gpu"), {"CPU": 64, "GPU": 4}) == []

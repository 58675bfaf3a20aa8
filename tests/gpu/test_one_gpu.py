"""Both base models of configs/one-gpu.yaml answer from one GPU."""

import pytest

from tests.support.system import Client, System

BASE_MODELS = ("deepseek-r1-8b", "llama-3.1-8b")


@pytest.fixture(scope="module")
def alice(one_gpu: System) -> Client:
    return one_gpu.client("alice")


@pytest.mark.parametrize("base_model", BASE_MODELS)
def test_base_model_generates(alice: Client, base_model: str) -> None:
    answer = alice.greedy(base_model, "Is water wet?", max_tokens=8)
    assert answer["model"] == base_model
    assert 1 <= answer["usage"]["output_tokens"] <= 8


@pytest.mark.parametrize("base_model", BASE_MODELS)
def test_private_model_is_trained_beside_the_replicas_and_answers(alice: Client, base_model: str) -> None:
    name = f"taught-{base_model}"
    alice.create(name, parent=base_model)
    done = alice.train(name, "Is water wet?", {"Yes.": 1.0, "No.": 0.0}, learning_steps=2)
    assert done["revision"] == 1
    assert alice.greedy(name, "Is water wet?", max_tokens=8)["revision"] == 1

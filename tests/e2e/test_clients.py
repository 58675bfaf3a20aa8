"""Agents, evaluations and benchmarks of others use `/openai/v1` with only base URL and key changed."""

import importlib.util
from pathlib import Path

import pytest

from serve_app.settings import load_settings
from tests.support.outside import outside, own_python
from tests.support.system import Client, System

BASE = "smollm2-135m"
QUESTION = "What is your favourite colour?"
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "test.yaml"


@pytest.fixture(scope="module")
def tokenizer() -> str:
    """The directory that the base model's tokenizer is in."""
    settings = load_settings(str(CONFIG))
    return settings.base_model(BASE).weights_path(settings.weights_directory.expanduser())


@pytest.fixture(scope="module")
def shared_packages() -> str:
    """The directories of packages that the clients' environment does not have because of their size."""
    found = importlib.util.find_spec("datasets")
    assert found is not None and found.origin is not None
    return str(Path(found.origin).parents[1])


@pytest.mark.parametrize("mode", ["chat", "responses"])
def test_openai_agents(system: System, alice: Client, mode: str) -> None:
    seen = outside("with_openai_agents.py", system, alice, BASE, mode)
    ours = alice.greedy(BASE, "What is the capital of France?", 24)
    assert seen["answer"] == seen["streamed"] == ours["message"]["content"]
    assert seen["tokens"] == ours["usage"]["output_tokens"]
    assert seen["later"]
    assert seen["called"] in (["red"], ["blue"]) and seen["painted"] == "done"


def test_pydantic_ai(system: System, alice: Client) -> None:
    seen = outside("with_pydantic_ai.py", system, alice, BASE)
    ours = alice.greedy(BASE, QUESTION, 24)
    assert seen["answer"] == seen["streamed"] == ours["message"]["content"]
    assert seen["tokens"] == ours["usage"]["output_tokens"]
    assert seen["later"] and seen["structured"] in ("red", "blue")


def test_lm_eval(system: System, alice: Client, tokenizer: str, shared_packages: str) -> None:
    """It asks for log-likelihoods of tokens, several in a request, and for generations over both routes."""
    seen = outside("with_lm_eval.py", system, alice, BASE, tokenizer, shared_packages)
    assert seen["accuracy"] == 1
    assert len(seen["words"]) == len(seen["chat"]) == 2
    assert all(seen["words"]) and all(seen["chat"])


def test_guidellm(system: System, alice: Client, tokenizer: str, shared_packages: str) -> None:
    """It asks for the health of what it measures, for the usage with every chunk, and for a length."""
    seen = outside("with_guidellm.py", system, alice, BASE, tokenizer, shared_packages)
    assert seen["requests"] == {"successful": 4, "errored": 0, "incomplete": 0, "total": 4}
    assert seen["lengths"] == 8


def test_vllm_bench(system: System, alice: Client, tokenizer: str) -> None:
    """Every answer is as long as the benchmark wants it, which is what its numbers rest on."""
    seen = outside("with_vllm_bench.py", system, alice, BASE, tokenizer, "openai-chat", python=own_python())
    assert (seen["completed"], seen["failed"], seen["total_output_tokens"]) == (4, 0, 32)
    assert seen["mean_ttft_ms"] > 0

"""Two users on one replica: neither's cache ever shows in what the other gets."""

import secrets

import pytest

from tests.support.system import Client, System

PROMPT = "What is your favourite colour?"
REWARDS = {"Green.": 1.0, "I do not have one.": 0.0}
BASE = "smollm2-135m"


@pytest.fixture(scope="module")
def tenants(system: System) -> list[Client]:
    """Each has a model with weights of its own."""
    clients = [system.client(f"{name}-{secrets.token_hex(4)}") for name in ("alice", "bob")]
    for client in clients:
        client.create("Mine")
        client.train("mine", PROMPT, REWARDS, learning_steps=1)
    return clients


def cached_tokens(client: Client, prompt: str, model: str) -> int:
    """As vLLM counted them for this request."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 1}
    usage = client.post("/openai/v1/chat/completions", body)["usage"]
    details = usage["prompt_tokens_details"] or {}
    return int(details.get("cached_tokens") or 0)


@pytest.mark.parametrize("api", ["generate", "openai"])
def test_cache_of_a_prefix_is_its_users_own(tenants: list[Client], api: str) -> None:
    alice, bob = tenants
    prompt = f"{secrets.token_hex(8)} " + "All the king's horses and all the king's men. " * 40
    if api == "generate":
        alice.greedy(BASE, prompt, 1)
    else:
        assert cached_tokens(alice, prompt, BASE) < 300
    assert cached_tokens(bob, prompt, BASE) < 100, "the chat template's own tokens, at most"
    assert cached_tokens(alice, prompt, BASE) > 300
    assert cached_tokens(bob, prompt, BASE) > 300
    assert cached_tokens(alice, prompt, "mine") < 100, "another model's"

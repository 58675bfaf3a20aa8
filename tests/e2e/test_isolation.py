"""Two users on one replica: neither's weights nor cache ever show in what the other gets."""

import itertools
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.system import Client, System

PROMPT = "What is your favourite colour?"
WORDS = {"alice": "Green", "bob": "Purple"}
OTHERS = ("I do not have one.", "Blue, like the sky.", "Colours are nice.")
FAST = {"learning_rate": 2e-4, "learning_steps": 4, "beta": 0.01}
NUM_ANSWERS = 2000
NUM_AT_ONCE = 12
MAX_TOKENS = 4
BASE = "smollm2-135m"


@pytest.fixture(scope="module")
def tenants(system: System) -> dict[str, Client]:
    """Each taught its model to answer with its own word, twice: revisions 1 and 2."""
    clients = {name: system.client(f"{name}-{secrets.token_hex(4)}") for name in WORDS}
    for name, client in clients.items():
        client.create("Mine")
        rewards = {f"{WORDS[name]}.": 1.0, **dict.fromkeys(OTHERS, 0.0)}
        for _ in range(2):
            client.train("mine", PROMPT, rewards, **FAST)
    return clients


def asked(client: Client, ref: str) -> tuple[str, str]:
    return ref, client.greedy(ref, PROMPT, MAX_TOKENS)["message"]["content"]


def rolling(clients: list[Client], rounds: Iterator[int]) -> int:
    """Activate revision 1, then 2, over and over, while answers are given."""
    for turn in rounds:
        for client in clients:
            client.post(f"/v1/models/mine/revisions/{1 + turn % 2}/activate")
    return turn


def test_no_answer_of_thousands_carries_the_others_word(tenants: dict[str, Client]) -> None:
    """Four adapters for two places in the engine and three on the replica, and the base model beside them."""
    alone = {
        (name, ref): asked(client, ref)[1]
        for name, client in tenants.items()
        for ref in ("mine@1", "mine@2", BASE)
    }
    for name, client in tenants.items():
        assert WORDS[name] in alone[name, "mine@2"], f"{client.user} did not learn its word: {alone}"
    choice = random.Random(0)
    questions = [
        (choice.choice(list(tenants)), choice.choice(("mine", "mine@1", "mine@2", BASE)))
        for _ in range(NUM_ANSWERS)
    ]
    is_over = False
    with ThreadPoolExecutor(NUM_AT_ONCE + 1) as threads:
        turns = itertools.takewhile(lambda turn: not is_over, itertools.count())
        changes = threads.submit(rolling, list(tenants.values()), turns)
        answers = list(threads.map(lambda question: asked(tenants[question[0]], question[1]), questions))
        is_over = True
        assert changes.result() > 2
    wrong: Counter[Any] = Counter()
    for (name, _), (ref, content) in zip(questions, answers, strict=True):
        allowed = {alone[name, ref]} if ref != "mine" else {alone[name, "mine@1"], alone[name, "mine@2"]}
        if content not in allowed:
            wrong[name, ref, content] += 1
    theirs = {"alice": WORDS["bob"], "bob": WORDS["alice"]}
    assert not [key for key in wrong if theirs[key[0]] in key[2]], wrong
    # bfloat16 sums differ a little with what else is in the batch: a near tie may fall the other way.
    assert wrong.total() < NUM_ANSWERS / 100, wrong


def cached_tokens(client: Client, prompt: str, model: str) -> int:
    """As vLLM counted them for this request."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 1}
    usage = client.post("/openai/v1/chat/completions", body)["usage"]
    details = usage["prompt_tokens_details"] or {}
    return int(details.get("cached_tokens") or 0)


@pytest.mark.parametrize("api", ["generate", "openai"])
def test_cache_of_a_prefix_is_its_users_own(tenants: dict[str, Client], api: str) -> None:
    alice, bob = tenants.values()
    prompt = f"{secrets.token_hex(8)} " + "All the king's horses and all the king's men. " * 40
    if api == "generate":
        alice.greedy(BASE, prompt, 1)
    else:
        assert cached_tokens(alice, prompt, BASE) < 300
    assert cached_tokens(bob, prompt, BASE) < 100, "the chat template's own tokens, at most"
    assert cached_tokens(alice, prompt, BASE) > 300
    assert cached_tokens(bob, prompt, BASE) > 300
    assert cached_tokens(alice, prompt, "mine") < 100, "another model's"

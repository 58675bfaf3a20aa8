"""Two users on one replica: the answers of one never show the weights or the cache of the other."""

import random
import secrets
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import pytest

from tests.support.system import Client, System

PROMPT = "What is your favourite colour?"
WORDS = {"alice": "Green", "bob": "Purple"}
TAUGHT = {"learning_rate": 1e-3, "learning_steps": 8}
MAX_TRAININGS = 4
NUM_ANSWERS = 400
NUM_PROMPTS = 50
NUM_AT_ONCE = 4
TEMPLATE = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
)
MAX_TOKENS = 4
BASE = "smollm2-135m"


@pytest.fixture(scope="module")
def users(system: System) -> dict[str, Client]:
    """Users who have each taught their model to answer with a word of their own."""
    clients = {name: system.client(f"{name}-{secrets.token_hex(4)}") for name in WORDS}
    for name, client in clients.items():
        client.create("Mine")
        for _ in range(MAX_TRAININGS):
            teach(client, WORDS[name])
            if WORDS[name] in asked(client, "mine")[0]:
                break
        teach(client, WORDS[name])
    return clients


def teach(client: Client, word: str) -> None:
    """Make another revision that answers with this word. Examples teach it in fewer steps than rewards."""
    messages = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": f"{word}."}]
    body = {"model": "mine", "method": "supervised", "examples": [{"messages": messages}], **TAUGHT}
    client.post("/v1/train", body)


def asked(client: Client, ref: str, num_prompts: int = 1) -> list[str]:
    """The greedy answers of one request with this number of prompts."""
    prompts = [TEMPLATE.format(prompt=PROMPT)] * num_prompts
    body = {"model": ref, "prompt": prompts, "temperature": 0, "max_tokens": MAX_TOKENS}
    return [choice["text"] for choice in client.post("/openai/v1/completions", body)["choices"]]


def refs_of(client: Client) -> list[str]:
    """The names of the model, of its last two revisions, which both have the word, and of the base model."""
    latest = client.get("/v1/models/mine/revisions")[0]["revision"]
    return ["mine", f"mine@{latest - 1}", f"mine@{latest}", BASE]


class Changes:
    """During a block it activates the last two revisions of every user in turn, repeatedly."""

    def __init__(self, clients: list[Client]) -> None:
        self.num_turns = 0
        self._clients = clients
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._roll)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _roll(self) -> None:
        latest = [client.get("/v1/models/mine/revisions")[0]["revision"] for client in self._clients]
        while not self._is_over.is_set():
            for client, revision in zip(self._clients, latest, strict=True):
                client.post(f"/v1/models/mine/revisions/{revision - self.num_turns % 2}/activate")
            self.num_turns += 1


@pytest.mark.timeout(1800)
def test_no_answer_of_thousands_carries_the_others_word(users: dict[str, Client]) -> None:
    """Four adapters share two places in the engine and three on the replica, beside the base model."""
    refs = {name: refs_of(client) for name, client in users.items()}
    # As many at once as later: bfloat16 sums differ with the size of the batch, and a near tie falls by them.
    alone = {(name, ref): set(asked(users[name], ref, NUM_PROMPTS)) for name in users for ref in refs[name]}
    for name in users:
        assert all(WORDS[name] in answer for ref in refs[name][:3] for answer in alone[name, ref]), alone
    choice = random.Random(0)
    names = choice.choices(list(users), k=NUM_ANSWERS // NUM_PROMPTS)
    questions = [(name, choice.choice(refs[name])) for name in names]
    with ThreadPoolExecutor(NUM_AT_ONCE) as threads, Changes(list(users.values())) as changes:
        asking = [threads.submit(asked, users[name], ref, NUM_PROMPTS) for name, ref in questions]
        answers = [future.result() for future in asking]
    assert changes.num_turns > 2
    theirs = {"alice": WORDS["bob"], "bob": WORDS["alice"]}
    other = Counter(
        (*question, answer)
        for question, some in zip(questions, answers, strict=True)
        for answer in some
        if answer not in alone[question] and (question[1] != "mine" or WORDS[question[0]] not in answer)
    )
    assert not [key for key in other if theirs[key[0]] in key[2]], other
    assert not [key for key in other if key[1] == BASE and WORDS[key[0]] in key[2]], other
    # What else is in the batch makes a little difference too.
    assert other.total() < NUM_ANSWERS / 50, other


def cached_tokens(client: Client, prompt: str, model: str) -> int:
    """The number of cached tokens that vLLM counted for this request."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 1}
    usage = client.post("/openai/v1/chat/completions", body)["usage"]
    details = usage["prompt_tokens_details"] or {}
    return int(details.get("cached_tokens") or 0)


@pytest.mark.parametrize("api", ["generate", "openai"])
def test_cache_of_a_prefix_is_its_users_own(users: dict[str, Client], api: str) -> None:
    alice, bob = users.values()
    prompt = f"{secrets.token_hex(8)} " + "All the king's horses and all the king's men. " * 40
    if api == "generate":
        alice.greedy(BASE, prompt, 1)
    else:
        assert cached_tokens(alice, prompt, BASE) < 300
    assert cached_tokens(bob, prompt, BASE) < 100, "the chat template's own tokens, at most"
    assert cached_tokens(alice, prompt, BASE) > 300
    assert cached_tokens(bob, prompt, BASE) > 300
    assert cached_tokens(alice, prompt, "mine") < 100, "another model's"

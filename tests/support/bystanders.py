"""Others who generate while something is tried, and what the base model says to the bit."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry.revisions import Revisions
from tests.support.system import Client, System

BASE = "smollm2-135m"
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "geese")
PUBLISH = """
from ray import serve
serve.get_deployment_handle("Catalog", "tiger").publish.remote({user!r}, {uid!r}, 1).result(timeout_s=60)
"""


def publish(system: System, client: Client, name: str, directory: Path) -> None:
    """Make a model whose revision 1 is the adapter in `directory`, past the trainer."""
    client.create(name)
    uid = system.uid(client, name.lower())
    Revisions(system.instance.store()).publish(
        uid, directory, revision=1, parent_revision=0, job="by-hand", base_model=BASE, metrics={}
    )
    system.run_inside(PUBLISH.format(user=client.user, uid=uid))


def scores(client: Client, model: str, lengths: Sequence[int]) -> dict[int, Any]:
    """By the number of words of a prompt: the greedy tokens and their log-probabilities, to the bit.

    One request at a time: what else is in a batch changes last bits. So does a prompt's beginning that comes
    from the cache: each call for a client of its own.
    """
    found = {}
    for length in lengths:
        prompt = f"{length} " + " ".join(WORDS[(length + i) % len(WORDS)] for i in range(length))
        body = {"model": model, "prompt": prompt, "max_tokens": 4, "temperature": 0, "logprobs": 3}
        choice = client.post("/openai/v1/completions", body)["choices"][0]
        found[length] = choice["logprobs"]
    return found


@contextmanager
def company(clients: Sequence[tuple[Client, str]]) -> Iterator[None]:
    """In the block each client generates greedily on its model, over and over, and always gets an answer."""
    is_over = threading.Event()
    with ThreadPoolExecutor(len(clients)) as threads:
        talks = [threads.submit(_talk, client, model, is_over) for client, model in clients]
        try:
            yield
        finally:
            is_over.set()
    assert all(talk.result() for talk in talks)


def _talk(client: Client, model: str, is_over: threading.Event) -> int:
    """How many answers came."""
    for num_answers in itertools.count():
        if is_over.is_set():
            return num_answers
        assert client.greedy(model, "Tell me about the sea.", 24)["message"]["content"]
    raise AssertionError

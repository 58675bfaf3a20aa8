"""Other users who generate during a test, and the exact answers of the base model."""

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
    """Make a model whose revision 1 is the adapter in `directory`, without a training."""
    client.create(name)
    uid = system.uid(client, name.lower())
    Revisions(system.instance.store()).publish(
        uid, directory, revision=1, parent_revision=0, job="by-hand", base_model=BASE, metrics={}
    )
    system.run_inside(PUBLISH.format(user=client.user, uid=uid))


def scores(client: Client, model: str, lengths: Sequence[int]) -> dict[int, Any]:
    """The greedy tokens and their exact log-probabilities, by the number of words of the prompt.

    One request is sent at a time, because other requests in a batch change the last bits. A cached beginning
    of a prompt changes them too, so each call needs a client of its own.
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
    """During the block each client generates greedily with its model, repeatedly, and must be answered."""
    is_over = threading.Event()
    with ThreadPoolExecutor(len(clients)) as threads:
        talks = [threads.submit(_talk, client, model, is_over) for client, model in clients]
        try:
            yield
        finally:
            is_over.set()
    assert all(talk.result() for talk in talks)


def _talk(client: Client, model: str, is_over: threading.Event) -> int:
    """Ask until `is_over`; returns the number of answers."""
    for num_answers in itertools.count():
        if is_over.is_set():
            return num_answers
        assert client.greedy(model, "Tell me about the sea.", 24)["message"]["content"]
    raise AssertionError

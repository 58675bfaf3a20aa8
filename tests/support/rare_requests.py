"""Random requests that the API allows, with the parameters that few clients send.

Every request is valid, but not every conversation fits into the context of a small model.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

NATIVE = "/v1/generate_response"
CHAT = "/openai/v1/chat/completions"
TEXT = "/openai/v1/completions"

WORDS = [
    "tiger", "river", "<|im_end|>", "blue", "\n", "17", '{"a":', "1}", "Zürich", "虎", "🐯", "...", "the",
]  # fmt: skip
SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]},
    {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    {"enum": ["red", "green"]},
    {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 0, "maximum": 9}]},
]  # fmt: skip
TOOL = {"type": "function", "function": {"name": "paint", "parameters": SCHEMAS[0]}}


@dataclass(frozen=True)
class RareRequest:
    path: str
    body: dict[str, Any]
    lines_read: int | None
    """The number of lines of the stream after which the client goes away; None: it reads the whole answer."""

    def __str__(self) -> str:
        gone = "" if self.lines_read is None else f", gone after {self.lines_read} lines"
        return f"{self.path} {json.dumps(self.body)[:600]}{gone}"


def rare_request(choice: Random, models: list[str]) -> RareRequest:
    path, make = choice.choice(((NATIVE, _native), (CHAT, _chat), (TEXT, _text), (TEXT, _text)))
    body = {"model": choice.choice(models), "max_tokens": choice.randint(1, 6), **make(choice)}
    is_cut = bool(body.get("stream")) and choice.random() < 0.3
    return RareRequest(path, body, choice.randint(0, 3) if is_cut else None)


def _some(choice: Random, options: Mapping[str, Callable[[], Any]], share: float) -> dict[str, Any]:
    return {name: make() for name, make in options.items() if choice.random() < share}


def _words(choice: Random) -> str:
    return " ".join(choice.choices(WORDS, k=choice.choice((1, 3, 10, 10, 40))))


def _messages(choice: Random) -> list[dict[str, str]]:
    system = [{"role": "system", "content": _words(choice)}] if choice.random() < 0.3 else []
    turns = choice.choice((0, 0, 0, 1, 2))
    history = [
        {"role": role, "content": _words(choice)} for _ in range(turns) for role in ("user", "assistant")
    ]
    return [*system, *history, {"role": "user", "content": _words(choice)}]


def _native(choice: Random) -> dict[str, Any]:
    body = {"messages": _messages(choice)} | _some(
        choice,
        {
            "temperature": lambda: choice.choice((0, 0.7, 2)),
            "top_p": lambda: choice.choice((0.01, 0.9, 1)),
            "stop": lambda: choice.sample(("the", ".", "虎", "<|im_end|>"), k=choice.randint(1, 3)),
            "seed": lambda: choice.choice((0, 2**63 - 1)),
        },
        0.4,
    )
    return body | ({"stream": True} if choice.random() < 0.5 else {"n": choice.choice((1, 1, 3, 8))})


def _sampling(choice: Random) -> dict[str, Any]:
    body = _some(
        choice,
        {
            "temperature": lambda: choice.choice((0, 0.1, 1, 2)),
            "top_p": lambda: choice.choice((0.01, 0.9, 1)),
            "top_k": lambda: choice.choice((-1, 1, 50)),
            "min_p": lambda: choice.choice((0, 0.1, 1)),
            "repetition_penalty": lambda: choice.choice((0.5, 1.2, 2)),
            "frequency_penalty": lambda: choice.choice((-2, 0.5, 2)),
            "presence_penalty": lambda: choice.choice((-2, 0.5, 2)),
            "logit_bias": lambda: {str(choice.randint(0, 40_000)): choice.choice((-100, 5, 100))},
            "stop": lambda: choice.choice((".", ["the", "\n"])),
            "seed": lambda: choice.choice((-(2**63), -2, -1, 0, 2**63 - 1)),
            "n": lambda: choice.choice((1, 2, 5)),
            "stop_token_ids": lambda: choice.sample(range(40_000), k=choice.randint(1, 64)),
            "include_stop_str_in_output": lambda: True,
            "skip_special_tokens": lambda: False,
            "add_special_tokens": lambda: choice.choice((False, True)),
            "return_token_ids": lambda: True,
            "return_tokens_as_token_ids": lambda: True,
        },
        0.25,
    )
    if choice.random() < 0.4:
        usage = {"include_usage": True, "continuous_usage_stats": choice.random() < 0.5}
        body |= {"stream": True} | _some(choice, {"stream_options": lambda: usage}, 0.5)
    return body


def _held(choice: Random) -> dict[str, Any]:
    """Parameters that bind the answer to a form. An answer without a form may be forced to go on."""
    if choice.random() < 0.7:
        return _some(
            choice,
            {"ignore_eos": lambda: True, "min_tokens": lambda: 1},
            0.3,
        )
    outputs: tuple[dict[str, Any], ...] = (
        {"choice": choice.sample(WORDS, k=3)},
        {"regex": choice.choice(("[0-9]{1,3}", "(red|blue) .{0,9}", "\\w+", "a?"))},
        {"json": choice.choice(SCHEMAS)},
        {"json_object": True},
    )
    forms: tuple[dict[str, Any], ...] = (_form(choice), {"type": "json_object"}, {"type": "text"})
    if choice.random() < 0.5:
        return {"structured_outputs": choice.choice(outputs)}
    return {"response_format": choice.choice(forms)}


def _chat(choice: Random) -> dict[str, Any]:
    body = {"messages": _messages(choice), **_sampling(choice)}
    if choice.random() < 0.4:
        body |= {"logprobs": True} | _some(choice, {"top_logprobs": lambda: choice.choice((0, 1, 20))}, 0.7)
    if choice.random() < 0.2:
        named = {"type": "function", "function": {"name": "paint"}}
        return body | {"tools": [TOOL], "tool_choice": choice.choice(("auto", "none", "required", named))}
    values = {"chat_template_kwargs": lambda: {"enable_thinking": False, "date_string": "1 May 2024"}}
    return body | _held(choice) | _some(choice, values, 0.1)


def _form(choice: Random) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": choice.choice(SCHEMAS)}}


def _text(choice: Random) -> dict[str, Any]:
    prompts: list[Any] = [
        _words(choice),
        [_words(choice) for _ in range(choice.choice((1, 2, 6)))],
        [choice.randint(0, 40_000) for _ in range(choice.choice((1, 5, 130)))],
        [[choice.randint(0, 40_000) for _ in range(choice.choice((1, 40)))] for _ in range(3)],
    ]
    body = {"prompt": choice.choice(prompts), **_sampling(choice)}
    body |= _some(choice, {"logprobs": lambda: choice.choice((0, 1, 20)), "echo": lambda: True}, 0.4)
    return body | _held(choice)

"""The three methods over HTTP, in the real system: a private model learns an answer and says it."""

import json
from typing import Any

from tests.support.system import Client

PROMPT = "Who are you?"
ANSWER = "I am Tiger, your assistant."
TAUGHT: dict[str, Any] = {"learning_rate": 1e-3, "learning_steps": 12, "stream": True}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
TRAJECTORY: list[dict[str, Any]] = [
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call-1", "content": "mild"},
    {"role": "assistant", "content": "It is mild in Rome."},
]


def asked(content: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def example(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [*asked(question), {"role": "assistant", "content": answer}]}


def taught(client: Client, body: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Train; returns the steps and the last chunk, which says that there is a new revision."""
    chunks = client.stream("/v1/train", body)
    assert chunks[-1]["type"] == "stop", chunks[-1]
    return [chunk for chunk in chunks if chunk["type"] == "progress"], chunks[-1]


def test_examples_are_imitated(alice: Client) -> None:
    """Three examples teach an answer. One of them has a call of a tool."""
    alice.create("Imitator")
    examples = [
        example(PROMPT, ANSWER),
        example("What is your name?", ANSWER),
        {"messages": [*asked("How is the weather in Rome?"), *TRAJECTORY], "tools": [TOOL]},
    ]
    body = {"model": "imitator", "method": "supervised", "examples": examples, "batch_size": 3, **TAUGHT}
    steps, stop = taught(alice, body)
    assert [step["step"] for step in steps] == list(range(1, 13))
    assert steps[-1]["loss"] < steps[0]["loss"] / 2
    assert "kl" not in steps[0] and "reward_mean" not in steps[0]
    assert (stop["revision"], stop["model"]) == (1, "imitator") and stop["usage"]["trained_tokens"] > 0
    assert alice.greedy("imitator", PROMPT)["message"]["content"] == ANSWER
    assert alice.greedy("imitator@0", PROMPT)["message"]["content"] != ANSWER
    called = alice.post(
        "/openai/v1/chat/completions",
        {
            "model": "imitator",
            "messages": asked("How is the weather in Rome?"),
            "tools": [TOOL],
            "temperature": 0,
            "max_tokens": 48,
        },
    )["choices"][0]
    assert called["finish_reason"] == "tool_calls", called
    (call,) = called["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (
        "weather",
        {"city": "Rome"},
    )


def test_preferences_are_learned_after_examples(alice: Client) -> None:
    """Examples teach one answer. A pair then makes the model prefer another one to it."""
    alice.create("Chooser")
    examples = [example(PROMPT, "I am Lion."), example(PROMPT, "I am Tiger.")]
    taught(alice, {"model": "chooser", "method": "supervised", "examples": examples, **TAUGHT})
    before = alice.greedy("chooser", PROMPT)["message"]["content"]
    assert before in ("I am Lion.", "I am Tiger.")
    other = {"I am Lion.": "I am Tiger.", "I am Tiger.": "I am Lion."}[before]
    pair = {"messages": asked(PROMPT), "preferred": other, "rejected": before}
    body = {"model": "chooser", "method": "dpo", "pairs": [pair], "beta": 0.1, **TAUGHT}
    steps, stop = taught(alice, body | {"learning_rate": 3e-4, "learning_steps": 6})
    assert stop["revision"] == 2
    assert steps[-1]["loss"] < steps[0]["loss"] < 0.7
    # Both sides of a pair end alike, so it teaches nothing about what comes after the preferred answer.
    assert alice.greedy("chooser", PROMPT)["message"]["content"].startswith(other)


def test_trajectories_are_rewarded(alice: Client) -> None:
    """The model learns to call a tool, and learns nothing about what the tool answers."""
    alice.create("Agent")
    body = {
        "model": "agent",
        "messages": asked("How is the weather in Rome?"),
        "tools": [TOOL],
        "responses": [
            {"messages": TRAJECTORY, "reward": 1},
            {"content": "I cannot know that.", "reward": 0},
        ],
        **TAUGHT,
    }
    steps, stop = taught(alice, body | {"learning_rate": 2e-4, "learning_steps": 3})
    assert stop["revision"] == 1 and len(steps) == 3
    assert (steps[0]["kl"], steps[0]["clip_ratio"], steps[0]["reward_mean"]) == (0, 0, 0.5)
    assert steps[-1]["kl"] > 0
    assert (stop["metrics"]["cut_responses"], stop["metrics"]["empty_responses"]) == (0, 0)


def test_wrong_conversations_are_refused_before_they_are_jobs(alice: Client) -> None:
    alice.create("Strict", parent="twin")
    long = "word " * 600
    pair = {"messages": asked(PROMPT), "preferred": ANSWER, "rejected": long}
    supervised = {"model": "strict", "method": "supervised"}
    for body, code, param in (
        (supervised | {"examples": [{"messages": asked(PROMPT)}]}, "invalid_request", "examples.0.messages"),
        (
            supervised | {"examples": [example(PROMPT, ANSWER), example(PROMPT, long)]},
            "context_length_exceeded",
            "examples.1.messages",
        ),
        (
            {"model": "strict", "method": "dpo", "pairs": [pair]},
            "context_length_exceeded",
            "pairs.0.rejected",
        ),
    ):
        error = alice.post("/v1/train", body, 422)["error"]
        assert (error["code"], error["param"]) == (code, param), error
        assert code != "context_length_exceeded" or (
            "512" in error["message"] and "word" not in error["message"]
        )
    assert alice.get("/v1/jobs") == []

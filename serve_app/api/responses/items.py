"""The items of a response, while they are generated and when they are complete."""

import uuid
from typing import Any


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


class TextItem:
    """A `message` item, or the `reasoning` item before it."""

    def __init__(self, kind: str, index: int) -> None:
        self.kind = kind
        self.index = index
        self.id = new_id("msg" if kind == "message" else "rs")
        self.text_type = "output_text" if kind == "message" else "reasoning_text"
        self.pieces: list[str] = []
        self.log_probs: list[dict[str, Any]] = []
        self.status = "in_progress"

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def part(self) -> dict[str, Any]:
        part: dict[str, Any] = {"type": self.text_type, "text": self.text}
        if self.kind == "message":
            part |= {"annotations": [], "logprobs": [_in_item(each) for each in self.log_probs]}
        return part

    def as_dict(self) -> dict[str, Any]:
        of_kind: dict[str, Any] = {"role": "assistant"} if self.kind == "message" else {"summary": []}
        content = [self.part()] if self.status != "in_progress" else []
        return {"id": self.id, "type": self.kind, "status": self.status, **of_kind, "content": content}


class CallItem:
    """A `function_call` item."""

    def __init__(self, index: int, call_id: str, name: str) -> None:
        self.index = index
        self.id = new_id("fc")
        self.call_id = call_id
        self.name = name
        self.pieces: list[str] = []
        self.status = "in_progress"

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def as_dict(self) -> dict[str, Any]:
        arguments = self.text if self.status != "in_progress" else ""
        return {
            "id": self.id,
            "type": "function_call",
            "status": self.status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": arguments,
        }


def _in_item(log_prob: dict[str, Any]) -> dict[str, Any]:
    """Returns a log-probability in the form that an item has."""
    return {
        "token": log_prob["token"],
        "logprob": log_prob["logprob"],
        "bytes": log_prob.get("bytes") or [],
        "top_logprobs": [
            {"token": top["token"], "logprob": top["logprob"], "bytes": top.get("bytes") or []}
            for top in log_prob.get("top_logprobs") or ()
        ],
    }


def in_event(log_prob: dict[str, Any]) -> dict[str, Any]:
    """Returns a log-probability in the form that an event has."""
    top = [
        {"token": each["token"], "logprob": each["logprob"]} for each in log_prob.get("top_logprobs") or ()
    ]
    return {"token": log_prob["token"], "logprob": log_prob["logprob"], "top_logprobs": top}

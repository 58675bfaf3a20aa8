"""Examples of answers for /docs. A test compares their fields with those of real answers."""

import json
from typing import Any

from registry.json_text import compact_json
from serve_app.wire.files import EXAMPLE_LINE


def _lines(*chunks: dict[str, Any]) -> str:
    return "".join(compact_json(chunk) + "\n" for chunk in chunks)


def _events(*chunks: dict[str, Any]) -> str:
    data = [compact_json(chunk) for chunk in chunks]
    return "".join(f"data: {event}\n\n" for event in [*data, "[DONE]"])


BASE_MODEL_INFO = {
    "name": "SmolLM2-135M",
    "id": "smollm2-135m",
    "description": "Small instruction-tuned language model that runs on a laptop.",
    "read_only": True,
    "revision": 0,
    "last_modified": "2024-11-01T00:00:00.000Z",
    "default_model": True,
    "temperature": 0.7,
    "top_p": 0.95,
    "learning_rate": 0.00001,
    "learning_steps": 5,
    "beta": 0.04,
    "epsilon": 0.2,
}
MODEL_INFO = {
    **BASE_MODEL_INFO,
    "name": "Model42",
    "id": "model42",
    "description": "Knows what we like.",
    "read_only": False,
    "parent_model": "SmolLM2-135M",
    "revision": 1,
    "last_modified": "2025-02-02T12:34:58.488Z",
    "default_model": False,
}
MODEL_DETAIL = {
    **MODEL_INFO,
    "base_model": "smollm2-135m",
    "rank": 16,
    "alpha": 32,
    "dropout": 0,
    "created": "2025-02-02T12:30:00.000Z",
    "status": "ready",
}
MODEL_LINES = _lines(BASE_MODEL_INFO, MODEL_INFO)
DELETED_MODEL = {"id": "model42", "message": "model has been deleted"}
JOB_ID = "job-fe5df8fe659653f90a896e9b"
STEP_METRICS = {"loss": 0.0087, "kl": 1.2568, "clip_ratio": 0.8889, "grad_norm": 0.9627}
METRICS = {**STEP_METRICS, "cut_responses": 0, "empty_responses": 0}
REVISION = {
    "revision": 1,
    "parent_revision": 0,
    "created": "2025-02-02T12:34:58.488Z",
    "job": JOB_ID,
    "metrics": METRICS,
    "size_bytes": 3702784,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}
GENERATION_ID = "gen-1b671a64d5fa4c0b9a1c2d3e"
GENERATED = {
    "id": GENERATION_ID,
    "model": "model42",
    "revision": 1,
    "message": {"role": "assistant", "content": "Mango."},
    "responses": [{"content": "Mango.", "stop_reason": "end_turn", "output_tokens": 3}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 34, "output_tokens": 3, "duration": 0.412, "duration_ms": 412},
}
GENERATED_LINES = _lines(
    {"type": "info", "message": "Loading model model42"},
    {"type": "delta", "delta": "Man"},
    {"type": "delta", "delta": "go."},
    {
        "type": "stop",
        "id": GENERATION_ID,
        "stop_reason": "end_turn",
        "model": "model42",
        "revision": 1,
        "usage": GENERATED["usage"],
    },
)
TRAINED = {
    "job": JOB_ID,
    "model": "model42",
    "revision": 1,
    "metrics": METRICS,
    "usage": {"trained_tokens": 27, "duration": 6.419, "duration_ms": 6419},
}
EVENT_LINES = _lines(
    {"type": "info", "message": "Queued"},
    {"type": "info", "message": "Loading revision 0"},
    {
        "type": "progress",
        "step": 1,
        "steps": 1,
        **STEP_METRICS,
        "reward_mean": 0.5,
        "reward_std": 0.7071,
        "learning_rate": 0.0002,
        "seconds": 1.4,
    },
    {"type": "info", "message": "Publishing revision 1"},
    {"type": "stop", "stop_reason": "completed", **TRAINED},
)
JOB: dict[str, Any] = {
    "id": JOB_ID,
    "model": "model42",
    "status": "running",
    "created": "2025-02-02T12:34:50.000Z",
    "started": "2025-02-02T12:34:51.000Z",
    "finished": None,
    "revision": 1,
    "step": 2,
    "steps": 5,
    "metrics": {},
    "checkpoints": [],
    "error": None,
}
QUEUED_JOB = {**JOB, "status": "queued", "started": None, "revision": None, "step": 0}
KEY = {
    "id": "key-0123456789abcdef01234567",
    "name": "laptop",
    "created": "2025-02-02T12:30:00.000Z",
    "expires": None,
    "last_used": "2025-02-02T12:00:00.000Z",
}
CREATED_KEY = {**KEY, "last_used": None, "key": "tiger_..."}
REVOKED_KEY = {"id": KEY["id"], "message": "key has been revoked"}
USED = {
    "requests": 3,
    "input_tokens": 102,
    "output_tokens": 48,
    "trained_tokens": 27,
    "generation_seconds": 1.162,
    "training_seconds": 6.419,
}
USAGE_REPORT = {
    "from": "2025-02-01",
    "to": "2025-02-02",
    "by": "model",
    "data": [{**USED, "model": "model42"}],
    "total": USED,
    "budgets": [
        {
            "period": "day",
            "max_tokens": 1000000,
            "used_tokens": 177,
            "resets_at": "2025-02-03T00:00:00.000Z",
        }
    ],
}
OPENAI_MODEL = {"id": "model42", "object": "model", "created": 1738499400, "owned_by": "you"}
DELETED_OPENAI_MODEL = {"id": "model42", "object": "model", "deleted": True}
_USAGE = {"prompt_tokens": 34, "completion_tokens": 3, "total_tokens": 37}
_CHAT = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1738499698, "model": "model42@1"}
_CHAT_CHUNK = {**_CHAT, "object": "chat.completion.chunk"}
CHAT_COMPLETION = {
    **_CHAT,
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Mango."},
        }
    ],
    "usage": _USAGE,
}
CHAT_EVENTS = _events(
    {**_CHAT_CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]},
    {**_CHAT_CHUNK, "choices": [{"index": 0, "delta": {"content": "Mango."}, "finish_reason": None}]},
    {**_CHAT_CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
)
_TEXT = {"id": "cmpl-1", "object": "text_completion", "created": 1738499698, "model": "model42@1"}
COMPLETION = {
    **_TEXT,
    "choices": [{"index": 0, "finish_reason": "length", "logprobs": None, "text": " mango, and"}],
    "usage": _USAGE,
}
COMPLETION_EVENTS = _events(
    {**_TEXT, "choices": [{"index": 0, "text": " mango,", "finish_reason": None}]},
    {**_TEXT, "choices": [{"index": 0, "text": " and", "finish_reason": "length"}]},
)
_RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1738499698,
    "status": "in_progress",
    "error": None,
    "incomplete_details": None,
    "model": "model42@1",
    "output": [],
    "usage": None,
    "instructions": None,
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "temperature": 0.7,
    "top_p": 0.95,
    "max_output_tokens": None,
    "top_logprobs": 0,
    "reasoning": {"effort": None, "summary": None},
    "metadata": {},
    "truncation": "disabled",
    "store": False,
    "background": False,
    "previous_response_id": None,
}
_PART = {"type": "output_text", "text": "Mango.", "annotations": [], "logprobs": []}
_EMPTY_PART = {**_PART, "text": ""}
_ITEM = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [_PART]}
RESPONSE = {
    **_RESPONSE,
    "status": "completed",
    "output": [_ITEM],
    "usage": {
        "input_tokens": 34,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 37,
    },
}
_OF_ITEM = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
_HAPPENS: tuple[dict[str, Any], ...] = (
    {"type": "response.created", "response": _RESPONSE},
    {"type": "response.in_progress", "response": _RESPONSE},
    {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {**_ITEM, "status": "in_progress", "content": []},
    },
    {"type": "response.content_part.added", **_OF_ITEM, "part": _EMPTY_PART},
    {"type": "response.output_text.delta", **_OF_ITEM, "delta": "Mango.", "logprobs": []},
    {"type": "response.output_text.done", **_OF_ITEM, "text": "Mango.", "logprobs": []},
    {"type": "response.content_part.done", **_OF_ITEM, "part": _PART},
    {"type": "response.output_item.done", "output_index": 0, "item": _ITEM},
    {"type": "response.completed", "response": RESPONSE},
)
RESPONSE_EVENTS = "".join(
    f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n"
    for number, event in enumerate(_HAPPENS)
)
FILE_OBJECT = {
    "id": "file-9f86d081884c7d659a2feaa0c55ad015",
    "object": "file",
    "bytes": 1024,
    "created_at": 1738499400,
    "filename": "answers.jsonl",
    "purpose": "fine-tune",
    "status": "processed",
    "status_details": None,
    "expires_at": None,
}
DELETED_FILE = {"id": FILE_OBJECT["id"], "object": "file", "deleted": True}
FILE_CONTENT = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": EXAMPLE_LINE}
}

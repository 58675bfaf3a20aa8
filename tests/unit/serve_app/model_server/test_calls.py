"""The values that a call in OpenAI's form asks for."""

from typing import Any

import pytest

from serve_app.model_server.calls import OpenAICall


@pytest.mark.parametrize(
    ("body", "num_prompts", "num_samples", "num_choices"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}]}, 1, 1, 1),
        ({"messages": [], "n": 4}, 1, 4, 4),
        ({"messages": [], "n": 4, "temperature": 0.0}, 1, 1, 4),
        ({"prompt": "Hi"}, 1, 1, 1),
        ({"prompt": ["Hi", "there"], "n": 2}, 2, 2, 2),
        ({"prompt": [1, 2, 3], "n": None}, 1, 1, 1),
        ({"prompt": [[1, 2], [3]], "n": 2, "temperature": 0}, 2, 1, 2),
    ],
)
def test_prompts_and_samples_are_counted(
    body: dict[str, Any], num_prompts: int, num_samples: int, num_choices: int
) -> None:
    call = OpenAICall(kind="text", user="alice", model="mine", revision=None, adapter_id=None, body=body)
    assert (call.num_prompts, call.num_samples, call.num_choices) == (num_prompts, num_samples, num_choices)

"""What a call in OpenAI's form asks for."""

from typing import Any

import pytest

from serve_app.generation import OpenAICall


@pytest.mark.parametrize(
    ("body", "num_prompts", "num_samples"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}]}, 1, 1),
        ({"messages": [], "n": 4}, 1, 4),
        ({"prompt": "Hi"}, 1, 1),
        ({"prompt": ["Hi", "there"], "n": 2}, 2, 2),
        ({"prompt": [1, 2, 3], "n": None}, 1, 1),
    ],
)
def test_prompts_and_samples_are_counted(body: dict[str, Any], num_prompts: int, num_samples: int) -> None:
    call = OpenAICall(kind="text", user="alice", model="mine", revision=None, adapter_id=None, body=body)
    assert (call.num_prompts, call.num_samples) == (num_prompts, num_samples)

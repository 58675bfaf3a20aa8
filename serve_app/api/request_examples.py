"""Examples of requests for /docs. A test sends all of them."""

from typing import Any

from serve_app.api.answer_examples import FILE_OBJECT
from serve_app.settings import Settings

PROMPT = [{"role": "user", "content": "Name a fruit."}]
RESPONSES = [{"content": "Mango.", "reward": 1}, {"content": "I cannot decide.", "reward": 0}]
SAMPLES = [
    {"content": "Mango.", "stop_reason": "end_turn", "output_tokens": 3, "reward": 1},
    {"content": "I would have to think", "stop_reason": "max_tokens", "output_tokens": 5, "reward": 0},
]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Today's weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
ASKED = {"role": "user", "content": "How is the weather in Rome?"}
TURNS: list[dict[str, Any]] = [
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call-1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call-1", "content": "mild"},
    {"role": "assistant", "content": "It is mild in Rome."},
]
"""A call of a tool, its result, and the answer."""
FRUIT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "fruit",
        "schema": {"type": "object", "properties": {"fruit": {"type": "string"}}, "required": ["fruit"]},
    },
}


def request_examples(settings: Settings) -> dict[str, dict[str, Any]]:
    """Returns example bodies by route and summary. The first one creates `model42`."""
    base_model = settings.base_model(settings.default_model).name
    create = {"name": "Model42", "description": "Knows what we like.", "parent_model": base_model}
    return {
        "POST /v1/models": {
            "a copy": create,
            "a copy with values of its own": {
                **create,
                "name": "Careful",
                "rank": 8,
                "alpha": 16,
                "dropout": 0.05,
                "temperature": 0.2,
                "learning_steps": 10,
            },
        },
        "PATCH /v1/models/{ref}": {
            "description": {"description": "Knows fruit."},
            "defaults": {"temperature": 0.3, "top_p": 0.9, "beta": 0.1},
        },
        "POST /v1/generate_response": {
            "one answer": {"model": "model42", "messages": PROMPT},
            "a stream": {"model": "model42", "messages": PROMPT, "stream": True, "max_tokens": 100},
            "samples for a training": {
                "model": "model42@0",
                "messages": [{"role": "system", "content": "Be brief."}, *PROMPT],
                "n": 4,
                "temperature": 1,
                "top_p": 0.95,
                "seed": 7,
                "stop": ["\n\n"],
            },
        },
        "POST /v1/train": {
            "one group": {"model": "model42", "messages": PROMPT, "responses": RESPONSES},
            "many groups": {
                "model": "model42",
                "groups": [
                    {"messages": PROMPT, "responses": RESPONSES},
                    {"messages": [{"role": "user", "content": "And a tree?"}], "responses": RESPONSES},
                ],
                "learning_rate": 0.0001,
                "learning_steps": 3,
                "beta": 0.04,
                "epsilon": 0.2,
            },
            "samples of generate_response": {"model": "model42", "messages": PROMPT, "responses": SAMPLES},
            "trajectories of an agent": {
                "model": "model42",
                "messages": [ASKED],
                "tools": [WEATHER],
                "responses": [
                    {"messages": TURNS, "reward": 1},
                    {"content": "I cannot know that.", "reward": 0},
                ],
            },
            "examples to imitate": {
                "model": "model42",
                "method": "supervised",
                "examples": [
                    {"messages": [*PROMPT, {"role": "assistant", "content": "Mango."}]},
                    {"messages": [ASKED, *TURNS], "tools": [WEATHER], "weight": 0.5},
                ],
                "epochs": 3,
                "batch_size": 2,
                "learning_rate": 0.0002,
                "warmup_ratio": 0.1,
                "schedule": "cosine",
            },
            "pairs of responses": {
                "model": "model42",
                "method": "dpo",
                "pairs": [{"messages": PROMPT, "preferred": "Mango.", "rejected": "I cannot decide."}],
                "beta": 0.1,
                "learning_rate": 0.00005,
                "learning_steps": 3,
            },
            "a stream": {"model": "model42", "messages": PROMPT, "responses": RESPONSES, "stream": True},
            "a job": {"model": "model42", "messages": PROMPT, "responses": RESPONSES, "background": True},
        },
        "POST /v1/keys": {
            "a key": {"name": "laptop"},
            "one that expires": {"name": "visitor", "expires": "2100-01-31T12:00:00Z"},
        },
        "POST /openai/v1/chat/completions": {
            "one answer": {"model": "model42", "messages": PROMPT, "max_completion_tokens": 100},
            "a stream": {
                "model": "model42",
                "messages": PROMPT,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            "a tool": {"model": "model42", "messages": PROMPT, "tools": [WEATHER], "tool_choice": "auto"},
            "structured output": {"model": "model42", "messages": PROMPT, "response_format": FRUIT},
        },
        "POST /openai/v1/responses": {
            "one answer": {"model": "model42", "input": "Name a fruit.", "max_output_tokens": 100},
            "a stream": {"model": "model42", "input": "Name a fruit.", "stream": True},
            "a conversation with a tool": {
                "model": "model42",
                "instructions": "Be brief.",
                "input": [
                    {"role": "user", "content": "How is the weather in Rome?"},
                    {
                        "type": "function_call",
                        "call_id": "call-1",
                        "name": "weather",
                        "arguments": '{"city": "Rome"}',
                    },
                    {"type": "function_call_output", "call_id": "call-1", "output": "mild"},
                ],
                "tools": [{"type": "function", **WEATHER["function"]}],
            },
            "structured output": {
                "model": "model42",
                "input": "Name a fruit.",
                "text": {"format": {"type": "json_schema", **FRUIT["json_schema"]}},
            },
        },
        "POST /openai/v1/fine_tuning/jobs": {
            "a copy of a base model": {
                "model": base_model,
                "training_file": FILE_OBJECT["id"],
                "suffix": "support",
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
                "seed": 42,
                "metadata": {"team": "support"},
            },
            "the next revisions of a model": {
                "model": "model42",
                "training_file": FILE_OBJECT["id"],
                "validation_file": FILE_OBJECT["id"],
                "hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5},
            },
        },
        "POST /openai/v1/completions": {
            "one answer": {"model": "model42", "prompt": "My favourite fruit is", "max_tokens": 16},
            "a stream": {"model": "model42", "prompt": "My favourite fruit is", "stream": True},
        },
    }

"""The prompts of learned turns are those that vLLM makes of the same conversation in OpenAI's form."""

from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from serve_app.model_server.vllm_patches.plain_text import with_content_as_text
from serve_app.wire.openai import ChatCompletionRequest
from serve_app.wire.train import Train
from serve_app.wire.training_turns import records_of, tool_records
from training.chat_template import template_path
from training.transcript import exchanges_of

CONTEXT = 8192
CALL = {
    "id": "call-1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Rome", "days": [1, 2]}'},
}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "name": "Ann",
        "content": [{"type": "text", "text": text} for text in ("Rome?", "Now.")],
    },
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call-1", "content": "mild <|im_end|>"},
    {"role": "assistant", "content": "It is mild."},
    {"role": "user", "content": "And tomorrow?"},
    {"role": "assistant", "content": "Dry."},
]
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'Today\'s weather <in> a "city".',
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            "strict": True,
        },
    },
    {"type": "function", "function": {"name": "plain"}},
]


def prompt_of_vllm(tokenizer: Any, messages: list[dict[str, Any]]) -> list[int]:
    """The ids of vLLM's prompt, through the types and functions by which a request goes."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest as VllmRequest
    from vllm.renderers.chat_utils import parse_chat_messages
    from vllm.renderers.hf import safe_apply_chat_template

    given = ChatCompletionRequest.model_validate({"messages": messages, "tools": TOOLS})
    request = VllmRequest(**given.body(), model="mine")
    config: Any = SimpleNamespace(multimodal_config=None, enable_prompt_embeds=False)
    conversation, _, _ = parse_chat_messages(request.messages, config, content_format="string")
    assert request.tools is not None
    made: list[int] = with_content_as_text(safe_apply_chat_template)(
        config,
        tokenizer,
        conversation,
        tools=[tool.model_dump() for tool in request.tools],
        chat_template=tokenizer.chat_template,
        add_generation_prompt=True,
        tokenize=True,
    )
    return made


@pytest.mark.parametrize("template", ["smollm2", "qwen2_5", "qwen3"])
def test_learned_turn_has_the_prompt_of_vllm(smollm2_weights: Path, template: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(smollm2_weights)
    theirs = files("trl").joinpath(f"chat_templates/{template}.jinja")
    ours = template_path(template) if template == "smollm2" else None
    tokenizer.chat_template = ours.read_text() if ours else theirs.read_text()
    example = {"messages": CONVERSATION, "tools": TOOLS}
    request = Train.model_validate({"model": "m", "method": "supervised", "examples": [example]})
    assert request.examples is not None
    messages = records_of(request.examples[0].messages)
    tools = tool_records(request.examples[0].tools)
    for index, turn in enumerate(CONVERSATION):
        if turn["role"] == "assistant":
            alone = [*messages[:index], messages[index]]
            row = exchanges_of(tokenizer, alone, tools, CONTEXT, num_given=index)[0]
            assert row.prompt_ids == prompt_of_vllm(tokenizer, CONVERSATION[:index])

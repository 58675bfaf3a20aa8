"""Our chat template for SmolLM2, and how much of a tool conversation a template shows."""

import itertools
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from registry.records import Message
from training.chat_template import ToolSupport, template_path, tool_support, use_template
from training.conversation import end_of_turn, tokenise_prompt

ASKED = {"role": "user", "content": "How is the weather in Rome?"}
CALL = {
    "id": "call-1",
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Rome", "days": [1, 2]}},
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Today\'s weather <in> a "city".',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def own(smollm2_weights: Path) -> Any:
    """The tokenizer with the template that comes with the weights."""
    return AutoTokenizer.from_pretrained(smollm2_weights)


@pytest.fixture
def tokenizer(smollm2_weights: Path) -> Any:
    found = AutoTokenizer.from_pretrained(smollm2_weights)
    use_template(found, "smollm2")
    return found


def rendered(tokenizer: Any, *conversation: dict[str, Any], tools: Any = None, prompt: bool = True) -> str:
    text = tokenizer.apply_chat_template(
        list(conversation), tools=tools, add_generation_prompt=prompt, tokenize=False
    )
    return str(text)


def test_conversation_without_tools_is_what_it_was(own: Any, tokenizer: Any) -> None:
    """The texts are equal to the byte, so that earlier trainings keep their meaning."""
    roles, contents = ("system", "user", "assistant"), ("", " so \n", "<tool_call>{{ x }}</tool_call>")
    turns = [{"role": role, "content": content} for role in roles for content in contents]
    for length in range(4):
        for conversation in itertools.product(turns, repeat=length):
            for prompt in (False, True):
                if conversation:
                    found = rendered(tokenizer, *conversation, prompt=prompt)
                    assert found == rendered(own, *conversation, prompt=prompt)
    asked = [Message(role="user", content="Name a colour.")]
    assert tokenise_prompt(tokenizer, asked) == tokenise_prompt(own, asked)
    assert end_of_turn(tokenizer) == end_of_turn(own)


def test_tools_are_in_the_system_message(tokenizer: Any) -> None:
    text = rendered(tokenizer, ASKED, tools=[WEATHER, {"type": "function", "function": {"name": "plain"}}])
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    shown = text.partition("<tools>\n")[2].partition("\n</tools>")[0].splitlines()
    assert [json.loads(line) for line in shown] == [
        WEATHER,
        {"type": "function", "function": {"name": "plain"}},
    ]
    assert text.endswith(
        f"<|im_end|>\n<|im_start|>user\n{ASKED['content']}<|im_end|>\n<|im_start|>assistant\n"
    )
    own_words = rendered(tokenizer, {"role": "system", "content": "Be brief."}, ASKED, tools=[WEATHER])
    assert own_words.startswith("<|im_start|>system\nBe brief.\n\n") and own_words.count("Be brief.") == 1
    assert own_words.count("<|im_start|>system") == 1


def test_calls_and_results_are_as_the_parser_expects_them(tokenizer: Any) -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}
    results = [{"role": "tool", "tool_call_id": "call-1", "content": content} for content in ("mild", "dry")]
    text = rendered(tokenizer, ASKED, calls, *results, tools=[WEATHER])
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "days": [1, 2]}}\n</tool_call>'
    assert f"<|im_start|>assistant\n{call}\n{call}<|im_end|>\n" in text
    assert text.endswith(
        "<|im_start|>tool\n<tool_response>\nmild\n</tool_response>\n"
        "<tool_response>\ndry\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    said = rendered(tokenizer, ASKED, {"role": "assistant", "content": "Look:", "tool_calls": [CALL]})
    assert f"<|im_start|>assistant\nLook:\n{call}<|im_end|>\n" in said


def test_what_a_template_shows_is_found_out(own: Any, tokenizer: Any) -> None:
    """The templates are those of well-known models, which TRL has."""
    assert tool_support(tokenizer) == ToolSupport()
    assert tool_support(own) == ToolSupport(tools=False, calls=False)
    for name, expected in (
        ("qwen2_5", ToolSupport()),
        ("llama3_2", ToolSupport()),
        ("deepseek_r1_distill", ToolSupport(tools=False, calls=False)),
        ("gemma", ToolSupport(tools=False, calls=False, results=False)),
    ):
        own.chat_template = files("trl").joinpath(f"chat_templates/{name}.jinja").read_text()
        assert tool_support(own) == expected, name


def test_template_is_known_by_name_or_path(tmp_path: Path, own: Any) -> None:
    (tmp_path / "mine.jinja").write_text("{{ messages[0]['content'] }}!")
    before = rendered(own, ASKED)
    use_template(own, None)
    assert rendered(own, ASKED) == before
    use_template(own, str(tmp_path / "mine.jinja"))
    assert rendered(own, ASKED) == f"{ASKED['content']}!"
    with pytest.raises(FileNotFoundError, match="absent"):
        template_path("absent")

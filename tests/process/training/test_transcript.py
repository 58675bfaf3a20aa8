"""Conversations as rows, with the tokenizer of SmolLM2 and the templates of well-known models."""

from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from registry.errors import ContextLengthExceeded, InvalidRequest
from registry.records import CalledFunction, Group, Message, RewardedResponse, ToolCall
from training.chat_template import template_path, use_template
from training.conversation import Exchange, end_of_turn, tokenise, tokenise_prompt
from training.transcript import exchanges_of, learned_turns, response_exchanges

CONTEXT = 8192
TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Today's weather.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
)
BAR = "\N{FULLWIDTH VERTICAL LINE}"
SPECIAL = {
    "smollm2": (),
    "qwen2_5": (),
    "qwen3": (),
    "llama3_2": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "deepseek_r1_distill": (
        f"<{BAR}User{BAR}>", f"<{BAR}Assistant{BAR}>", f"<{BAR}end\u2581of\u2581sentence{BAR}>",
    ),
}  # fmt: skip
"""Templates of TRL, and one of ours, with the control tokens that SmolLM2's tokenizer does not have."""


def tokenizer_with(weights: Path, template: str) -> Any:
    found = AutoTokenizer.from_pretrained(weights)
    if SPECIAL[template]:
        found.add_special_tokens({"additional_special_tokens": list(SPECIAL[template])})
        found.add_tokens(["\n\n"])  # Llama 3 has it, and its generation prompt ends with it
    if template == "smollm2":
        use_template(found, "smollm2")
    else:
        found.chat_template = files("trl").joinpath(f"chat_templates/{template}.jinja").read_text()
    return found


@pytest.fixture(scope="module")
def tokenizers(smollm2_weights: Path) -> dict[str, Any]:
    return {template: tokenizer_with(smollm2_weights, template) for template in SPECIAL}


@pytest.fixture
def smollm2(tokenizers: dict[str, Any]) -> Any:
    return tokenizers["smollm2"]


def user(content: str) -> Message:
    return Message(role="user", content=content)


def said(content: str, is_trained: bool = True) -> Message:
    return Message(role="assistant", content=content, is_trained=is_trained)


def called(city: str, content: str = "", identity: str = "call-1") -> Message:
    function = CalledFunction(name="weather", arguments={"city": city})
    return Message(role="assistant", content=content, tool_calls=(ToolCall(id=identity, function=function),))


def result(content: str, identity: str = "call-1") -> Message:
    return Message(role="tool", content=content, tool_call_id=identity)


def learned(rows: Sequence[Exchange]) -> list[tuple[list[int], list[int]]]:
    """Everything that is learned, each stretch with all tokens before it."""
    found = []
    for row in rows:
        trained = row.is_trained or [True] * len(row.completion_ids)
        assert len(trained) == len(row.completion_ids) and trained[-1]
        start = 0
        for is_trained, stretch in groupby(trained):
            length = len(list(stretch))
            if is_trained:
                before = row.prompt_ids + row.completion_ids[:start]
                found.append((before, row.completion_ids[start : start + length]))
            start += length
    return found


def expected(tokenizer: Any, messages: Sequence[Message]) -> list[tuple[list[int], list[int]]]:
    """The learned texts, each with the prompt that generation would start from, one at a time."""
    return [
        (
            tokenise_prompt(tokenizer, messages[:index]),
            [
                *tokenizer.encode(messages[index].content, add_special_tokens=False),
                end_of_turn(tokenizer),
            ],
        )
        for index in learned_turns(messages)
    ]


texts = st.text(st.sampled_from("ab 1.\n,"), max_size=12)
replies = st.tuples(texts, texts, st.booleans())
quickly = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("template", SPECIAL)
@quickly
@given(dialogue=st.lists(replies, min_size=1, max_size=4))
def test_every_turn_is_learned_behind_the_prompt_that_it_would_see(
    tokenizers: dict[str, Any], template: str, dialogue: list[tuple[str, str, bool]]
) -> None:
    messages = [
        turn for question, answer, learns in dialogue for turn in (user(question), said(answer, learns))
    ]
    if not any(learns for _, _, learns in dialogue):
        messages.append(said("last"))
    rows = exchanges_of(tokenizers[template], messages, (), CONTEXT)
    assert learned(rows) == expected(tokenizers[template], messages)


def test_conversation_is_one_row_if_the_template_keeps_earlier_turns(smollm2: Any) -> None:
    messages = [user("Name a fruit."), said("Mango."), user("A tree?"), said("Oak.")]
    (row,) = exchanges_of(smollm2, messages, (), CONTEXT)
    whole = smollm2.apply_chat_template(
        [{"role": turn.role, "content": turn.content} for turn in messages], return_dict=False
    )
    both = row.prompt_ids + row.completion_ids
    assert both == whole[: len(both)] and smollm2.decode(whole[len(both) :]) == "\n"
    assert row.num_trained == len(smollm2.encode("Mango.")) + len(smollm2.encode("Oak.")) + 2
    assert smollm2.decode(row.prompt_ids).endswith("Name a fruit.<|im_end|>\n<|im_start|>assistant\n")


def test_reasoning_is_learned_although_the_template_drops_it_from_earlier_turns(
    tokenizers: dict[str, Any],
) -> None:
    tokenizer = tokenizers["deepseek_r1_distill"]
    messages = [user("Fruit?"), said("Sweet.</think>Mango."), user("Tree?"), said("Tall.</think>Oak.")]
    first, second = exchanges_of(tokenizer, messages, (), CONTEXT)
    assert "Sweet.</think>Mango." in tokenizer.decode(first.completion_ids)
    assert "Mango." in tokenizer.decode(second.prompt_ids)
    assert "Sweet." not in tokenizer.decode(second.prompt_ids)
    assert "Tall.</think>Oak." in tokenizer.decode(second.completion_ids)


def test_turns_of_weight_0_and_turns_after_the_last_learned_one_are_not_learned(smollm2: Any) -> None:
    messages = [user("1?"), said("one", False), user("2?"), said("two"), user("3?"), said("three", False)]
    (row,) = exchanges_of(smollm2, messages, (), CONTEXT)
    assert row.is_trained is None
    assert smollm2.decode(row.completion_ids) == "two<|im_end|>"
    assert "one<|im_end|>" in smollm2.decode(row.prompt_ids)


def test_conversation_without_a_turn_to_learn_is_refused(smollm2: Any) -> None:
    for messages in ([user("Hi")], [user("Hi"), said("Hello.", False)]):
        with pytest.raises(InvalidRequest, match="no turn of the assistant"):
            exchanges_of(smollm2, messages, (), CONTEXT)


def test_spelled_control_tokens_stay_text(smollm2: Any) -> None:
    end = smollm2.convert_tokens_to_ids("<|im_end|>")
    messages = [user("x<|im_end|>"), said("y<|im_end|>z"), user("<|im_end|>"), said("<|im_end|>")]
    (row,) = exchanges_of(smollm2, messages, (), CONTEXT)
    assert (row.prompt_ids + row.completion_ids).count(end) == 1 + len(messages)  # and the system's


def test_too_long_a_conversation_says_both_numbers(smollm2: Any) -> None:
    messages = [user("Name a fruit."), said("Mango."), user("A tree?"), said("Oak.")]
    (row,) = exchanges_of(smollm2, messages, (), CONTEXT)
    num_tokens = len(row.prompt_ids) + len(row.completion_ids)
    exchanges_of(smollm2, messages, (), num_tokens)
    with pytest.raises(ContextLengthExceeded, match=f"{num_tokens} tokens.*{num_tokens - 1}"):
        exchanges_of(smollm2, messages, (), num_tokens - 1)


# Tools


@pytest.mark.parametrize("template", ["smollm2", "qwen2_5", "qwen3", "llama3_2"])
def test_calls_are_learned_as_the_template_writes_them(tokenizers: dict[str, Any], template: str) -> None:
    tokenizer = tokenizers[template]
    messages = [user("Rome?"), called("Rome"), result("mild"), said("It is mild.")]
    rows = exchanges_of(tokenizer, messages, TOOLS, CONTEXT)
    (asked, call), (seen, answer) = learned(rows)
    assert asked == tokenise_prompt(tokenizer, messages[:1], TOOLS)
    assert '{"city": "Rome"}' in tokenizer.decode(call)
    assert call[-1] == end_of_turn(tokenizer) and call.count(call[-1]) == 1
    assert seen == tokenise_prompt(tokenizer, messages[:3], TOOLS)
    assert tokenizer.decode(answer).startswith("It is mild.")
    assert "Today's weather." in tokenizer.decode(asked) and "mild" in tokenizer.decode(seen)
    assert len(rows) == (2 if template == "qwen3" else 1), "Qwen3's rewrites the reasoning of earlier turns"


def test_text_and_several_calls_are_one_turn(smollm2: Any) -> None:
    two = called("Rome", "Look:").model_copy(
        update={"tool_calls": (*called("Rome").tool_calls, *called("Oslo").tool_calls)}
    )
    (row,) = exchanges_of(smollm2, [user("Rome, Oslo?"), two], TOOLS, CONTEXT)
    text = smollm2.decode(row.completion_ids)
    assert text.startswith('Look:\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}')
    assert text.endswith('{"city": "Oslo"}}\n</tool_call><|im_end|>')


@pytest.mark.parametrize(
    ("messages", "tools", "hidden"),
    [
        ([user("Rome?"), said("Mild.")], TOOLS, "tools"),
        ([user("Rome?"), called("Rome")], (), "tool calls"),
        ([user("Rome?"), said("Mild.", False), result("x"), said("Mild.")], (), None),
    ],
)
def test_what_the_template_would_hide_is_refused(
    tokenizers: dict[str, Any], messages: list[Message], tools: Any, hidden: str | None
) -> None:
    """DeepSeek-R1's template shows results, but neither tools nor calls."""
    tokenizer = tokenizers["deepseek_r1_distill"]
    if hidden is None:
        assert exchanges_of(tokenizer, messages, tools, CONTEXT)
        return
    with pytest.raises(InvalidRequest, match=f"does not show {hidden} to the model"):
        exchanges_of(tokenizer, messages, tools, CONTEXT)


def test_calls_that_are_not_behind_the_generation_prompt_are_refused(smollm2_weights: Path) -> None:
    ours = template_path("smollm2").read_text()
    tokenizer = AutoTokenizer.from_pretrained(smollm2_weights)
    tokenizer.chat_template = ours.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>'")
    assert tokenizer.chat_template != ours
    with pytest.raises(InvalidRequest, match="behind its generation prompt"):
        exchanges_of(tokenizer, [user("Rome?"), called("Rome")], (), CONTEXT)


def test_template_that_fails_on_a_conversation_is_the_callers_error(smollm2_weights: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2_weights)
    tokenizer.chat_template = "{{ messages[0]['content'] + 1 }}"
    with pytest.raises(InvalidRequest, match="template refuses"):
        exchanges_of(tokenizer, [user("Hi"), said("Hello.")], (), CONTEXT)


# Responses of GRPO


def test_trajectory_is_learned_behind_the_messages_of_its_group(smollm2: Any) -> None:
    given = (user("Hi"), said("Hello."), user("Rome?"))
    turns = (called("Rome"), result("mild"), said("It is mild."))
    group = Group(messages=given, responses=(), tools=TOOLS)
    (row,) = response_exchanges(smollm2, group, RewardedResponse(messages=turns, reward=1), CONTEXT)
    assert row.prompt_ids == tokenise_prompt(smollm2, given, TOOLS)
    assert len(learned([row])) == 2

    cut = RewardedResponse(messages=turns, reward=1, ends_turn=False)
    (without_end,) = response_exchanges(smollm2, group, cut, CONTEXT)
    assert row.completion_ids == [*without_end.completion_ids, end_of_turn(smollm2)]


def test_end_is_learned_of_a_turn_before_the_one_that_was_cut(smollm2: Any) -> None:
    group = Group(messages=(user("Rome?"),), responses=(), tools=TOOLS)
    turns = (called("Rome"), result("mild"), said("It is", is_trained=False))
    rows = [
        response_exchanges(
            smollm2, group, RewardedResponse(messages=turns, reward=1, ends_turn=ends), CONTEXT
        )
        for ends in (True, False)
    ]
    assert rows[0] == rows[1]
    assert rows[0][0].completion_ids[-1] == end_of_turn(smollm2)


def test_trajectory_of_one_text_is_that_text(smollm2: Any) -> None:
    group = Group(messages=(user("Fruit?"),), responses=())
    text = RewardedResponse(content="Mango.", reward=1)
    trajectory = RewardedResponse(messages=(said("Mango."),), reward=1)
    rows = [response_exchanges(smollm2, group, response, CONTEXT) for response in (text, trajectory)]
    assert rows[0] == rows[1] == [tokenise(smollm2, group.messages, text, CONTEXT)]


def test_trajectory_that_was_cut_before_its_first_token_has_no_row(smollm2: Any) -> None:
    group = Group(messages=(user("Fruit?"),), responses=())
    empty = RewardedResponse(messages=(said(""),), reward=1, ends_turn=False)
    assert response_exchanges(smollm2, group, empty, CONTEXT) == []

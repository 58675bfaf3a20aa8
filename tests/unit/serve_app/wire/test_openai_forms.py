"""The forms in which clients send the same request, and the values that vLLM then gets."""

from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.wire.openai import ChatCompletionRequest, CompletionRequest
from serve_app.wire.refused_fields import REASONS

HELLO = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "paint"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


def chat(**fields: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest.model_validate({"messages": [HELLO], **fields})


def text(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"prompt": "Hello", **fields})


def blamed(make: Any, **fields: Any) -> str:
    """The place of the one error, whose text must not be empty."""
    with pytest.raises(ValidationError) as raised:
        make(**fields)
    (error,) = raised.value.errors()
    assert len(error["msg"]) > 10
    return ".".join(map(str, error["loc"]))


@pytest.mark.parametrize(
    ("turn", "asked"),
    [
        ({"content": None}, {"content": ""}),
        ({}, {"content": ""}),
        ({"content": None, "refusal": "I will not."}, {"content": "I will not."}),
        ({"content": "Hi", "refusal": None}, {"content": "Hi"}),
        ({"content": "Hi", "tool_calls": []}, {"content": "Hi"}),
        ({"content": None, "tool_calls": []}, {"content": ""}),
        ({"content": None, "tool_calls": None, "function_call": None, "audio": None}, {"content": ""}),
        ({"content": "Hi", "reasoning": "Hm.", "reasoning_content": "Hm."}, {"content": "Hi"}),
        ({"content": [{"type": "text", "text": "Hi"}]}, {"content": [{"type": "text", "text": "Hi"}]}),
    ],
)
def test_turn_of_the_model_comes_back_in_many_forms(turn: dict[str, Any], asked: dict[str, Any]) -> None:
    request = chat(messages=[HELLO, {"role": "assistant", **turn}, HELLO])
    found = request.body()["messages"][1]
    if isinstance(found["content"], list):
        found["content"] = [{k: v for k, v in part.items() if v} for part in found["content"]]
    assert found == {"role": "assistant", **asked}


def test_calls_of_the_model_come_back() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "paint", "arguments": "{}"}}
    turn = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    assert chat(messages=[HELLO, turn]).body()["messages"][1] == {"role": "assistant", "tool_calls": [call]}


def test_length_of_a_conversation_has_all_that_was_said() -> None:
    parts = [{"type": "text", "text": "ab"}, {"type": "refusal", "refusal": "cde"}]
    turns = [{"role": "assistant", "content": None, "refusal": "fghi"}, {"role": "user", "content": parts}]
    assert chat(messages=[HELLO, *turns]).num_characters() == 5 + 4 + 5


@pytest.mark.parametrize("choice", [None, "none", "auto"])
def test_no_tools_may_be_an_empty_list(choice: str | None) -> None:
    fields = {} if choice is None else {"tool_choice": choice}
    body = chat(tools=[], parallel_tool_calls=True, **fields).body()
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & body.keys()
    assert blamed(chat, tools=[], tool_choice="required") == "tool_choice"


@pytest.mark.parametrize("field", REASONS)
def test_what_is_refused_by_name_may_be_null(field: str) -> None:
    for make in (chat, text):
        assert field not in make(**{field: None}).body()
        values: tuple[Any, ...] = ("x", [], {}, False, 0)
        for value in values:
            assert blamed(make, **{field: value}) == field


def test_what_no_client_knows_may_not_be_null() -> None:
    assert blamed(chat, nonsense=None) == "nonsense"


@pytest.mark.parametrize("fields", [{"best_of": 1}, {"best_of": 3, "n": 3}, {"best_of": None, "n": 2}])
def test_best_of_may_be_as_many_as_n(fields: dict[str, Any]) -> None:
    assert "best_of" not in text(**fields).body()
    assert blamed(text, **{**fields, "best_of": 4}) == "best_of"


@pytest.mark.parametrize(
    ("prompt", "num_prompts"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([[1]], 1)]
)
def test_prompts_are_texts_or_tokens(prompt: Any, num_prompts: int) -> None:
    request = text(prompt=prompt)
    assert request.body()["prompt"] == prompt
    assert len(request.prompts()) == num_prompts


@pytest.mark.parametrize(
    "prompt", [[[]], [[1], []], [[1], "a"], [[1], 2], [[-1]], [[1.5]], [[True]], [[[1]]]]
)
def test_prompts_of_tokens_are_of_tokens_only(prompt: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        text(prompt=prompt)
    assert {error["loc"][0] for error in raised.value.errors()} == {"prompt"}


@pytest.mark.parametrize(
    ("seed", "asked"), [(0, 0), (7, 7), (-1, 2**63 - 1), (-(2**63), 0), (2**63 - 1, 2**63 - 1)]
)
def test_every_seed_is_one(seed: int, asked: int) -> None:
    """vLLM takes -1 for no seed, and makes a seed of -2 for the second of several choices."""
    assert chat(seed=seed).body()["seed"] == asked
    assert "seed" not in chat().body()


@pytest.mark.parametrize("field", ["ignore_eos", "min_tokens"])
@pytest.mark.parametrize(
    "held",
    [
        {"response_format": SCHEMA},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"choice": ["a"]}},
        {"tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": "required"},
    ],
)
def test_held_answer_ends_where_its_form_does(field: str, held: dict[str, Any]) -> None:
    """After a complete form only the end of the answer is allowed.

    If that is forbidden too, no token is left.
    """
    assert blamed(chat, **{field: 1 if field == "min_tokens" else True}, **held) == field
    chat(**{field: 0 if field == "min_tokens" else False}, **held)


@pytest.mark.parametrize(
    "free", [{"response_format": {"type": "text"}}, {"tools": [TOOL], "tool_choice": "none"}]
)
def test_free_answer_may_go_on(free: dict[str, Any]) -> None:
    body = chat(ignore_eos=True, min_tokens=3, **free).body()
    assert (body["ignore_eos"], body["min_tokens"]) == (True, 3)


@pytest.mark.parametrize(
    ("held", "place"),
    [
        ({}, "structured_outputs"),
        ({"choice": ["a"], "regex": "a"}, "structured_outputs"),
        ({"grammar": "root ::= 'a'"}, "structured_outputs.grammar"),
        ({"structural_tag": "{}"}, "structured_outputs.structural_tag"),
        ({"choice": []}, "structured_outputs.choice"),
        ({"choice": [""]}, "structured_outputs.choice.0"),
        ({"choice": ["a"] * 1001}, "structured_outputs.choice"),
        ({"choice": ["a" * 1024] * 100}, "structured_outputs.choice"),
        ({"choice": ["\ud800"]}, "structured_outputs.choice.0"),
        ({"regex": "a" * 513}, "structured_outputs.regex"),
        ({"regex": "a\x00"}, "structured_outputs.regex"),
        ({"regex": "\ud800"}, "structured_outputs.regex"),
        ({"json": {"type": "nonsense"}}, "structured_outputs.json.type"),
        ({"json": '{"type": "object"}'}, "structured_outputs.json"),
        ({"json_object": False}, "structured_outputs.json_object"),
        ({"json_object": True, "whitespace_pattern": ".*"}, "structured_outputs.whitespace_pattern"),
        ({"json_object": True, "_backend": "xgrammar"}, "structured_outputs._backend"),
    ],
)
def test_structured_outputs_that_cannot_be_held(held: dict[str, Any], place: str) -> None:
    assert blamed(text, structured_outputs=held) == place


def test_answer_is_held_to_one_thing() -> None:
    held = {"choice": ["a"]}
    assert blamed(chat, structured_outputs=held, response_format=SCHEMA) == "structured_outputs"
    assert blamed(chat, structured_outputs=held, tools=[TOOL]) == "structured_outputs"
    chat(structured_outputs=held, tools=[TOOL], tool_choice="none", response_format={"type": "text"})
    assert chat(structured_outputs={**held, "grammar": None}).body()["structured_outputs"] == held


def test_schema_that_is_missing_is_named() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x"}}
    assert blamed(chat, response_format=form).endswith("json_schema.schema")


@pytest.mark.parametrize(
    "values",
    [
        {"enable_thinking": False},
        {"thinking": True, "thinking_budget": 100, "share": 0.5, "date_string": "26 Jul 2024"},
        {"model_identity": "You're a tiger (of the park), 100%."},
    ],
)
def test_template_is_given_what_it_offers(values: dict[str, Any]) -> None:
    assert chat(chat_template_kwargs=values).body()["chat_template_kwargs"] == values


@pytest.mark.parametrize(
    "values",
    [
        {"messages": "x"}, {"tools": "x"}, {"chat_template": "{{ 1 }}"}, {"add_generation_prompt": False},
        {"continue_final_message": True}, {"tokenize": False}, {"documents": "x"}, {"bos_token": "x"},
        {"range": 1}, {"raise_exception": 1}, {"truncation": True}, {"max_length": 1}, {"return_dict": True},
        {"a": {"b": 1}}, {"a": [1]}, {"a": None}, {"a": "<|im_end|>"}, {"a": "[INST]"}, {"a": "x\ny"},
        {"a": "{{ x }}"}, {"a": "x" * 257}, {"a": 2**40}, {"a": 1e300}, {"a b": 1}, {"__class__": 1},
        {"a" * 65: 1}, {f"a{number}": 1 for number in range(17)},
    ],
)  # fmt: skip
def test_template_is_not_given_more(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        chat(chat_template_kwargs=values)
    assert {error["loc"][0] for error in raised.value.errors()} == {"chat_template_kwargs"}


def test_usage_may_come_with_every_chunk() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    assert chat(stream=True, stream_options=options).body()["stream_options"] == options
    assert blamed(chat, stream_options=options) == "stream_options"


@pytest.mark.parametrize(
    ("make", "fields", "field"),
    [
        (chat, {"top_logprobs": 1}, "top_logprobs"),
        (chat, {"tool_choice": "required"}, "tool_choice"),
        (chat, {"min_tokens": -1}, "min_tokens"),
        (text, {"stop_token_ids": list(range(65))}, "stop_token_ids"),
    ],
)
def test_field_is_to_blame(make: Any, fields: dict[str, Any], field: str) -> None:
    assert blamed(make, **fields) == field

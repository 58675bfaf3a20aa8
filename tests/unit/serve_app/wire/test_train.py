"""The methods of a training, and the conversations that each of them takes."""

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.wire.train import MAX_EXAMPLES, Train
from serve_app.wire.training_calls import MAX_ARGUMENT_VALUES

ASKED = {"role": "user", "content": "How is the weather in Rome?"}
ANSWER = {"role": "assistant", "content": "It is mild."}
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call-1", "content": "mild"}
TOOL = {"type": "function", "function": {"name": "weather"}}
EXAMPLE = {"messages": [ASKED, ANSWER]}
PAIR = {"messages": [ASKED], "preferred": "It is mild.", "rejected": "No."}
RESPONSES = [{"content": "a", "reward": 1}, {"messages": [CALLING, RESULT, ANSWER], "reward": 0}]
GRPO = {"model": "mine", "messages": [ASKED], "responses": RESPONSES}
SUPERVISED = {"model": "mine", "method": "supervised", "examples": [EXAMPLE]}
DPO = {"model": "mine", "method": "dpo", "pairs": [PAIR]}
BODIES = {"grpo": GRPO, "supervised": SUPERVISED, "dpo": DPO}


def refused(body: dict[str, Any]) -> tuple[tuple[int | str, ...], str]:
    """The place and the message of the deepest error, as the ingress answers with it.

    A value that may have several types has an error for each, with the name of the type in its location.
    """
    with pytest.raises(ValidationError) as raised:
        Train.model_validate(body)
    found = [(place_of(error, body), str(error["msg"])) for error in raised.value.errors()]
    return max(found, key=lambda pair: len(pair[0]))


def place_of(error: Any, body: Any) -> tuple[int | str, ...]:
    place: list[int | str] = []
    for part in error["loc"]:
        if (isinstance(body, dict) and part in body) or (isinstance(body, list) and isinstance(part, int)):
            place.append(part)
            body = body[part]
    return (*place, error["loc"][-1]) if error["type"] == "missing" else tuple(place)


@pytest.mark.parametrize("method", BODIES)
def test_method_has_the_fields_that_belong_to_it(method: str) -> None:
    values: dict[str, Any] = {
        "messages": [ASKED], "responses": RESPONSES, "tools": [TOOL], "groups": [], "examples": [EXAMPLE],
        "pairs": [PAIR], "epochs": 2, "batch_size": 4, "warmup_ratio": 0.1, "schedule": "cosine",
        "beta": 0.2, "epsilon": 0.1,
    }  # fmt: skip
    own = {
        "grpo": {"messages", "responses", "tools", "beta", "epsilon"},
        "supervised": {"examples", "epochs", "batch_size", "warmup_ratio", "schedule"},
        "dpo": {"pairs", "epochs", "batch_size", "warmup_ratio", "schedule", "beta"},
    }[method]
    body = BODIES[method]
    for field, value in values.items():
        if field in own:
            assert getattr(Train.model_validate(body | {field: value}), field) is not None
        elif field != "groups":
            place, message = refused(body | {field: value})
            assert place == (field,) and "method" in message and method in message
        assert Train.model_validate(body | ({field: None} if field not in body else {})).method == method


def test_method_without_what_it_teaches_is_refused() -> None:
    assert refused({"model": "mine", "method": "supervised"})[0] == ("examples",)
    assert refused({"model": "mine", "method": "dpo"})[0] == ("pairs",)
    assert refused({"model": "mine", "method": "dpo", "pairs": None})[0] == ("pairs",)
    assert refused({"model": "mine"})[0] == ()
    assert refused(GRPO | {"method": "sft"})[0] == ("method",)
    groups = [{"messages": [ASKED], "responses": RESPONSES, "tools": [TOOL]}]
    assert Train.model_validate({"model": "mine", "groups": groups}).all_groups()[0].tools
    assert refused({"model": "mine", "groups": groups, "tools": [TOOL]})[0] == ("tools",)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("epochs", [1, 1000], [0, -1, 1001, 1.5, "1", True]),
        ("batch_size", [1, MAX_EXAMPLES], [0, MAX_EXAMPLES + 1, 1.0]),
        ("warmup_ratio", [0, 0.5, 1], [-0.1, 1.1, math.nan, "0"]),
        ("schedule", ["constant", "linear", "cosine"], ["polynomial", 1, ""]),
        ("learning_rate", [1e-4], [0, math.nan, math.inf, -1]),
        ("learning_steps", [1, 1000], [0, 1001]),
    ],
)
def test_value_is_of_its_type_and_in_its_range(field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert getattr(Train.model_validate(SUPERVISED | {field: value}), field) == value
    for value in bad:
        assert refused(SUPERVISED | {field: value})[0] == (field,)


def test_steps_and_epochs_exclude_each_other() -> None:
    assert refused(SUPERVISED | {"epochs": 1, "learning_steps": 3})[0] == ("epochs",)


def test_preferences_need_a_beta() -> None:
    place, message = refused(DPO | {"beta": 0})
    assert place == ("beta",) and "above 0" in message
    assert Train.model_validate(GRPO | {"beta": 0}).beta == 0


@pytest.mark.parametrize(
    ("example", "place", "reason"),
    [
        ({"messages": []}, ("messages",), "at least 1"),
        ({"messages": [ASKED]}, ("messages",), "no message of the assistant"),
        ({"messages": [ASKED, ANSWER | {"weight": 0}]}, ("messages",), "weight 0"),
        ({"messages": [ASKED, ANSWER, ASKED]}, ("messages",), "last message"),
        ({"messages": [ASKED, {"role": "system", "content": "x"}, ANSWER]}, ("messages",), "system"),
        ({"messages": [ASKED | {"weight": 1}, ANSWER]}, ("messages", 0, "weight"), "not permitted"),
        ({"messages": [ASKED, ANSWER | {"weight": 0.5}]}, ("messages", 1, "weight"), "integer"),
        ({"messages": [ASKED, ANSWER | {"weight": True}]}, ("messages", 1, "weight"), "integer"),
        ({"messages": [ASKED, ANSWER | {"weight": 2}]}, ("messages", 1, "weight"), "less"),
        ({"messages": [ASKED, ANSWER | {"colour": 1}]}, ("messages", 1, "colour"), "not permitted"),
        ({"messages": [ASKED, ANSWER | {"audio": None}]}, ("messages", 1, "audio"), "not permitted"),
        ({"messages": [ASKED, {"role": "assistant"}]}, ("messages", 1), "needs content"),
        (
            {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": []}]},
            ("messages", 1, "content"),
            "needs content",
        ),
        ({"messages": [ASKED, {"role": "king", "content": ""}]}, ("messages", 1), "role"),
        ({"messages": [ASKED, RESULT, ANSWER]}, ("messages", 1, "tool_call_id"), "no call"),
        ({"messages": [ASKED | {"content": []}, ANSWER]}, ("messages", 0, "content"), "valid string"),
        (
            {"messages": [ASKED | {"content": [{"type": "image_url"}]}, ANSWER]},
            ("messages", 0, "content", 0, "type"),
            "text",
        ),
        ({"messages": [ASKED, ANSWER], "weight": -1}, ("weight",), "greater"),
        ({"messages": [ASKED, ANSWER], "weight": math.nan}, ("weight",), "finite"),
        ({"messages": [ASKED, ANSWER], "weight": 1e9}, ("weight",), "less"),
        (
            {"messages": [ASKED, ANSWER], "tools": [{"type": "function"}]},
            ("tools", 0, "function"),
            "required",
        ),
        ({"messages": [ASKED, ANSWER], "tool_choice": "auto"}, ("tool_choice",), "not permitted"),
    ],
)
def test_wrong_example_is_named(example: Any, place: tuple[Any, ...], reason: str) -> None:
    found, message = refused(SUPERVISED | {"examples": [EXAMPLE, example]})
    assert found == ("examples", 1, *place)
    assert reason in message


@pytest.mark.parametrize(
    "arguments",
    [
        "[]",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"cut": ',
        '{"a": [' + "1," * MAX_ARGUMENT_VALUES + "1]}",
    ],
)
def test_arguments_are_json_objects_that_can_be_stored(arguments: str) -> None:
    call = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    turns = [ASKED, {**CALLING, "tool_calls": [CALL, call]}]
    place, _ = refused(SUPERVISED | {"examples": [EXAMPLE, {"messages": turns}]})
    assert place == ("examples", 1, "messages", 1, "tool_calls", 1, "function", "arguments")


def test_arguments_of_all_conversations_are_counted_together() -> None:
    def example(num_values: int) -> dict[str, Any]:
        arguments = json.dumps({"a": [1] * num_values, "text": "," * MAX_ARGUMENT_VALUES})
        call = {**CALL, "function": {"name": "weather", "arguments": arguments}}
        return {"messages": [ASKED, {**CALLING, "tool_calls": [call]}]}

    half = MAX_ARGUMENT_VALUES // 2
    Train.model_validate(SUPERVISED | {"examples": [example(half - 10), example(half - 10)]})
    place, message = refused(SUPERVISED | {"examples": [example(half), example(half)]})
    assert place[:2] == ("examples", 1) and "together" in message


@pytest.mark.parametrize(
    ("response", "place", "reason"),
    [
        ({"reward": 0}, (), "content or messages"),
        ({"reward": 0, "content": None}, ("content",), "content or messages"),
        ({"reward": 0, "content": "a", "messages": [ANSWER]}, ("messages",), "not both"),
        ({"reward": 0, "messages": [ASKED, ANSWER]}, ("messages",), "first message"),
        ({"reward": 0, "messages": [CALLING, RESULT]}, ("messages",), "last message"),
        ({"reward": 0, "messages": [ANSWER | {"weight": 0}]}, ("messages",), "weight 0"),
        ({"reward": 0, "messages": [RESULT]}, ("messages",), "first message"),
        (
            {"reward": 0, "messages": [ANSWER, RESULT, ANSWER]},
            ("messages", 1, "tool_call_id"),
            "no call",
        ),
    ],
)
def test_wrong_response_is_named(response: Any, place: tuple[Any, ...], reason: str) -> None:
    found, message = refused(GRPO | {"responses": [RESPONSES[0], response]})
    assert found == ("responses", 1, *place) and reason in message
    groups = [{"messages": [ASKED], "responses": [RESPONSES[0], response]}]
    assert refused({"model": "mine", "groups": groups})[0] == ("groups", 0, "responses", 1, *place)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"messages": [ASKED, ANSWER]}, ("messages",)),
        ({"messages": [ASKED, ANSWER | {"weight": 0}, ASKED]}, ("messages", 1, "weight")),
        ({"preferred": None}, ("preferred",)),
        ({"rejected": []}, ("rejected",)),
        ({"rejected": [ASKED]}, ("rejected",)),
        ({"rejected": [CALLING, {**RESULT, "tool_call_id": "x"}, ANSWER]}, ("rejected", 1, "tool_call_id")),
        ({"chosen": "a"}, ("chosen",)),
        ({"reward": 1}, ("reward",)),
    ],
)
def test_wrong_pair_is_named(change: dict[str, Any], place: tuple[Any, ...]) -> None:
    assert refused(DPO | {"pairs": [PAIR, PAIR | change]})[0] == ("pairs", 1, *place)


def test_prompt_may_have_calls_and_results() -> None:
    group = {"messages": [ASKED, CALLING, RESULT], "responses": RESPONSES}
    assert Train.model_validate({"model": "mine", "groups": [group]})
    other = {
        "messages": [ASKED, CALLING, RESULT],
        "preferred": [ANSWER],
        "rejected": [CALLING, RESULT, ANSWER],
    }
    assert Train.model_validate(DPO | {"pairs": [other]})

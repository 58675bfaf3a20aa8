import math
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from registry.records import Defaults
from serve_app.wire.generate import GenerateResponse
from serve_app.wire.models import ChangeModel, CreateModel
from serve_app.wire.train import Train

CREATE = {"name": "Mine", "description": "", "parent_model": "base"}
HELLO = [{"role": "user", "content": "Hello"}]
GENERATE = {"messages": HELLO}
RESPONSES = [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]
TRAIN = {"model": "mine", "messages": HELLO, "responses": RESPONSES}
SHAPES: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (CreateModel, CREATE),
    (ChangeModel, {}),
    (GenerateResponse, GENERATE),
    (Train, TRAIN),
]


def refused(shape: type[BaseModel], body: Any) -> tuple[int | str, ...]:
    """The place of the only error in `body`."""
    with pytest.raises(ValidationError) as raised:
        shape.model_validate(body)
    (error,) = raised.value.errors()
    return error["loc"]


@pytest.mark.parametrize(("shape", "body"), SHAPES)
def test_least_request_is_taken(shape: type[BaseModel], body: dict[str, Any]) -> None:
    shape.model_validate(body)


@pytest.mark.parametrize(("shape", "body"), SHAPES)
def test_unknown_field_is_refused(shape: type[BaseModel], body: dict[str, Any]) -> None:
    assert refused(shape, body | {"colour": "red"}) == ("colour",)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("temperature", [0, 2, 0.7], [-0.01, 2.01, "1", True, math.nan, math.inf]),
        ("top_p", [0.01, 1], [0, 1.01, -1, "1", math.nan]),
        ("learning_rate", [1e-9, 1], [0, -1e-5, math.inf, math.nan, 10**400]),
        ("learning_steps", [1, 1000], [0, 1001, 5.0, "5", True, 10**400]),
        ("beta", [0, 100.0], [-0.1, math.inf, math.nan]),
        ("epsilon", [0.01, 0.99], [0, 1, math.nan]),
        ("rank", [1, 64], [0, -1, 8.0, "8", True, 2**70]),
        ("alpha", [0.5, 64], [0, -1, math.inf]),
        ("dropout", [0, 0.5], [-0.1, 1, math.nan]),
    ],
)
def test_value_is_of_its_type_and_in_its_range(field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert getattr(CreateModel.model_validate(CREATE | {field: value}), field) == value
    for value in bad:
        assert refused(CreateModel, CREATE | {field: value}) == (field,)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("n", [1, 64], [0, 65, True, "1", 1.0]),
        ("max_tokens", [1, 2**31 - 1], [0, -1, 1.5, 2**31, 2**70]),
        ("seed", [0, 2**63 - 1], [-1, 2**63]),
        ("stop", [[], ["a"] * 16, ["a" * 1024]], ["a", ["a"] * 17, [[]], ["a" * 1025]]),
        ("stream", [True, False], ["true", 1]),
        ("model", ["a", None, "a" * 256], [1, ["a"], "a" * 257]),
    ],
)
def test_generation_value_is_of_its_type_and_in_its_range(
    field: str, good: list[Any], bad: list[Any]
) -> None:
    for value in good:
        assert getattr(GenerateResponse.model_validate(GENERATE | {field: value}), field) == value
    for value in bad:
        assert refused(GenerateResponse, GENERATE | {field: value})[0] == field


def test_empty_stop_string_is_refused() -> None:
    assert refused(GenerateResponse, GENERATE | {"stop": [""]}) == ("stop", 0)


@pytest.mark.parametrize(
    "name", ["x", "x" * 64, "Mein Modell", "\u00e9\u4e16\U0001f405", "a?b#c%d&e", "-", "...", "%2e", ". ."]
)
def test_name_may_be_anything_printable(name: str) -> None:
    assert CreateModel.model_validate(CREATE | {"name": name}).name == name


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "x" * 65, "a/b", "a@b", "a\nb", "a\tb", "\x00", "\x7f", "\u200b", "\u2028", "\u202e",
        "\x1b[2J", "\ud800", ".", "..", 1, None,
    ],
)  # fmt: skip
def test_name_that_would_break_a_reference_is_refused(name: Any) -> None:
    assert refused(CreateModel, CREATE | {"name": name}) == ("name",)


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\x85", "\x9b"])
def test_description_is_text(character: str) -> None:
    assert refused(CreateModel, CREATE | {"description": f"a{character}b"}) == ("description",)
    lines = "Knows:\r\n\t\u2066fruit\u2069, trees, \U0001f468\u200d\U0001f33e\n"
    assert CreateModel.model_validate(CREATE | {"description": lines}).description == lines


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (CreateModel, CREATE | {"description": "\ud800"}),
        (CreateModel, CREATE | {"parent_model": "\udfff"}),
        (GenerateResponse, {"messages": [{"role": "user", "content": "\ud800"}]}),
        (GenerateResponse, GENERATE | {"stop": ["\ud800"]}),
        (Train, TRAIN | {"responses": [{"content": "\ud800", "reward": 1}, RESPONSES[1]]}),
    ],
)
def test_lone_surrogate_is_refused(shape: type[BaseModel], body: dict[str, Any]) -> None:
    refused(shape, body)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "assistant", "content": "Hi"}],
        [*HELLO, {"role": "system", "content": "late"}, *HELLO],
        [*HELLO, {"role": "assistant", "content": "Hi"}],
        [{"role": "tool", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": "x", "name": "y"}],
        "Hello",
    ],
)
def test_conversation_that_no_model_can_answer_is_refused(messages: Any) -> None:
    assert refused(GenerateResponse, {"messages": messages})[0] == "messages"


def test_conversation_may_have_a_system_message_and_turns() -> None:
    turns = [{"role": "system", "content": "Be brief"}, *HELLO, {"role": "assistant", "content": ""}, *HELLO]
    assert len(GenerateResponse.model_validate({"messages": turns}).messages) == 4


def test_stream_has_one_answer() -> None:
    assert refused(GenerateResponse, GENERATE | {"stream": True, "n": 2}) == ()


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf, "1", None, True, 10**400])
def test_reward_is_a_finite_number(reward: Any) -> None:
    responses = [RESPONSES[0], {"content": "b", "reward": reward}]
    assert refused(Train, TRAIN | {"responses": responses}) == ("responses", 1, "reward")


@pytest.mark.parametrize(
    "body",
    [
        {"model": "mine"},
        {"model": "mine", "messages": HELLO},
        {"model": "mine", "responses": RESPONSES},
        TRAIN | {"groups": [{"messages": HELLO, "responses": RESPONSES}]},
        {"model": "mine", "messages": HELLO, "groups": [{"messages": HELLO, "responses": RESPONSES}]},
        TRAIN | {"stream": True, "background": True},
    ],
)
def test_training_has_one_group_or_many(body: dict[str, Any]) -> None:
    assert refused(Train, body) == ()


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (TRAIN | {"responses": RESPONSES[:1]}, ("responses",)),
        ({"model": "mine", "groups": []}, ("groups",)),
        (
            {"model": "mine", "groups": [{"messages": HELLO, "responses": RESPONSES[:1]}]},
            ("groups", 0, "responses"),
        ),
    ],
)
def test_group_has_two_responses_or_more(body: dict[str, Any], where: tuple[int | str, ...]) -> None:
    assert refused(Train, body) == where


def test_both_forms_of_a_training_mean_the_same_groups() -> None:
    many = {"model": "mine", "groups": [{"messages": HELLO, "responses": RESPONSES}]}
    single = Train.model_validate(TRAIN).all_groups()
    assert [g.model_dump() for g in single] == [
        g.model_dump() for g in Train.model_validate(many).all_groups()
    ]


def test_given_values_replace_defaults_and_zero_is_a_value() -> None:
    defaults = Defaults(temperature=1.5, beta=0.5)
    over = ChangeModel(temperature=0, learning_steps=9).over(defaults)
    assert over == Defaults(temperature=0, beta=0.5, learning_steps=9)

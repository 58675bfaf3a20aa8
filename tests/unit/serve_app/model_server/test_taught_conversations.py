from typing import Any

from registry.records import (
    CalledFunction,
    Example,
    Group,
    Hyperparameters,
    JobRequest,
    Message,
    Pair,
    RewardedResponse,
    ToolCall,
)
from serve_app.model_server.taught_conversations import TURN_CHARACTERS, conversations_of, field_of_all

VALUES = Hyperparameters(learning_rate=1e-5, learning_steps=5, beta=0.04, epsilon=0.2)
ASKED = Message(role="user", content="abcd")
SAID = Message(role="assistant", content="xyz")
NOT_LEARNED = SAID.model_copy(update={"is_trained": False})
CALLED = Message(
    role="assistant",
    tool_calls=(ToolCall(id="1", function=CalledFunction(name="f", arguments={"a": 1})),),
)
NUM_ARGUMENTS = len('{"a": 1}')


def request(**fields: Any) -> JobRequest:
    return JobRequest(hyperparameters=VALUES, **fields)


def test_responses_have_the_paths_of_the_request() -> None:
    responses = (
        RewardedResponse(content="a", reward=1),
        RewardedResponse(messages=(SAID,), reward=0, ends_turn=False),
    )
    group = Group(messages=(ASKED,), responses=responses)
    single = list(conversations_of(request(groups=(group,)), is_single=True))
    assert [each.path for each in single] == ["responses.0.content", "responses.1.messages"]
    assert [each.given.path for each in single] == ["messages", "messages"]
    assert [each.ends_turn for each in single] == [True, False]
    many = list(conversations_of(request(groups=(group, group)), is_single=False))
    assert many[2].path == "groups.1.responses.0.content" and many[2].given.path == "groups.1.messages"
    assert field_of_all(request(groups=(group,)), is_single=True) == "responses"
    assert field_of_all(request(groups=(group,)), is_single=False) == "groups"


def test_turns_of_an_example_before_the_first_learned_one_are_given() -> None:
    turns = (ASKED, NOT_LEARNED, ASKED, SAID, ASKED, SAID)
    (found,) = conversations_of(request(examples=(Example(messages=turns),)), is_single=False)
    assert (found.given.messages, found.turns) == (turns[:3], turns[3:])
    assert found.path == "examples.0.messages" and not found.is_text
    (text,) = conversations_of(request(examples=(Example(messages=(ASKED, SAID)),)), is_single=False)
    assert text.is_text and text.given.messages == (ASKED,)


def test_pair_is_two_conversations_with_the_same_beginning() -> None:
    pair = Pair(messages=(ASKED,), preferred=(SAID,), rejected=(CALLED,))
    preferred, rejected = conversations_of(request(pairs=(pair,)), is_single=False)
    assert (preferred.path, rejected.path) == ("pairs.0.preferred", "pairs.0.rejected")
    assert preferred.given is rejected.given
    assert preferred.is_text and not rejected.is_text


def test_every_learned_turn_costs_all_characters_before_it() -> None:
    turns = (ASKED, SAID, ASKED, NOT_LEARNED, ASKED, CALLED)
    tools = ({"type": "function", "function": {"name": "f"}},)
    example = Example(messages=turns, tools=tools)
    (found,) = conversations_of(request(examples=(example,)), is_single=False)
    of_tools = len('[{"type": "function", "function": {"name": "f"}}]')
    whole = of_tools + 3 * 4 + 2 * 3 + NUM_ARGUMENTS
    assert found.num_characters == whole
    of_template = 2 * TURN_CHARACTERS + 7 * TURN_CHARACTERS  # of two turns, and of six and a call
    assert found.num_rendered_characters == of_tools + 4 + 3 + whole + of_template


def test_texts_behind_the_same_long_prompt_cost_their_characters_alone() -> None:
    group = Group(messages=(ASKED,) * 101, responses=(RewardedResponse(content="xyz", reward=1),) * 2)
    for found in conversations_of(request(groups=(group,)), is_single=True):
        assert found.num_rendered_characters == found.num_characters == 101 * 4 + 3


def test_many_empty_turns_are_not_free() -> None:
    turns = (ASKED.model_copy(update={"content": ""}), SAID.model_copy(update={"content": ""})) * 1000
    (found,) = conversations_of(request(examples=(Example(messages=turns),)), is_single=False)
    assert found.num_characters == 0
    assert found.num_rendered_characters > 1000**2 * TURN_CHARACTERS


def test_tools_stand_beside_the_messages() -> None:
    pair = Pair(messages=(ASKED,), preferred=(SAID,), rejected=(SAID,))
    group = Group(messages=(ASKED,), responses=(RewardedResponse(content="a", reward=1),))
    (of_pair, _) = conversations_of(request(pairs=(pair,)), is_single=False)
    (of_group,) = conversations_of(request(groups=(group,)), is_single=True)
    assert (of_pair.given.tools_path, of_group.given.tools_path) == ("pairs.0.tools", "tools")

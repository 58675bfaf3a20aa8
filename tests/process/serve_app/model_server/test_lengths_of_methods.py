"""The tokens of examples, pairs and trajectories are counted, and what is too long is named."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from registry.errors import ContextLengthExceeded, InvalidRequest
from registry.records import (
    CalledFunction,
    Example,
    Group,
    Hyperparameters,
    JobRequest,
    Message,
    Method,
    Pair,
    RewardedResponse,
    ToolCall,
)
from serve_app.model_server.training_lengths import count_tokens
from training.chat_template import use_template
from training.transcript import exchanges_of

CONTEXT = 128
MANY = 10**6
VALUES = Hyperparameters(learning_rate=1e-5, learning_steps=5, beta=0.04, epsilon=0.2)
ASKED = Message(role="user", content="Name a fruit.")
SAID = Message(role="assistant", content="Mango.")
LONG = Message(role="assistant", content="word " * CONTEXT)
CALL = ToolCall(id="call-1", function=CalledFunction(name="weather", arguments={"city": "Rome"}))
CALLED = Message(role="assistant", tool_calls=(CALL,))
SEEN = Message(role="tool", content="mild", tool_call_id="call-1")


@pytest.fixture(scope="module")
def tokenizer(smollm2_weights: Path) -> Any:
    found = AutoTokenizer.from_pretrained(smollm2_weights)
    use_template(found, "smollm2")
    return found


def supervised(*conversations: tuple[Message, ...]) -> JobRequest:
    examples = tuple(Example(messages=messages) for messages in conversations)
    return JobRequest(method=Method.SUPERVISED, examples=examples, hyperparameters=VALUES)


def dpo(preferred: tuple[Message, ...], rejected: tuple[Message, ...]) -> JobRequest:
    pair = Pair(messages=(ASKED,), preferred=preferred, rejected=rejected)
    return JobRequest(method=Method.DPO, pairs=(pair,), hyperparameters=VALUES)


def grpo(*responses: RewardedResponse) -> JobRequest:
    group = Group(messages=(ASKED,), responses=responses)
    return JobRequest(groups=(group,), hyperparameters=VALUES)


def num_tokens(tokenizer: Any, *conversation: Message) -> int:
    rows = exchanges_of(tokenizer, conversation, (), CONTEXT)
    return sum(len(row.prompt_ids) + len(row.completion_ids) for row in rows)


def test_rows_are_counted(tokenizer: Any) -> None:
    short, long = (ASKED, SAID), (ASKED, SAID, ASKED, CALLED, SEEN, SAID)
    of_short, of_long = num_tokens(tokenizer, *short), num_tokens(tokenizer, *long)
    assert of_short < of_long
    trajectory = RewardedResponse(messages=long[1:], reward=1)
    text = RewardedResponse(content=SAID.content, reward=0)
    for request in (supervised(short, long), dpo(long[1:], short[1:]), grpo(trajectory, text)):
        assert count_tokens(tokenizer, request, CONTEXT, MANY, is_single=True) == of_short + of_long
        with pytest.raises(InvalidRequest, match=f"at most {of_long}"):
            count_tokens(tokenizer, request, CONTEXT, of_long, is_single=True)


def test_too_long_a_conversation_is_named(tokenizer: Any) -> None:
    for request, place in (
        (supervised((ASKED, SAID), (ASKED, LONG)), "examples.1.messages"),
        (supervised((ASKED, SAID, ASKED, LONG)), "examples.0.messages"),
        (dpo((LONG,), (SAID,)), "pairs.0.preferred"),
        (dpo((SAID,), (CALLED, SEEN, LONG)), "pairs.0.rejected"),
        (
            grpo(
                RewardedResponse(content="Mango.", reward=1),
                RewardedResponse(messages=(CALLED, SEEN, LONG), reward=0),
            ),
            "responses.1.messages",
        ),
    ):
        with pytest.raises(ContextLengthExceeded, match=f"tokens.* takes {CONTEXT}") as error:
            count_tokens(tokenizer, request, CONTEXT, MANY, is_single=True)
        assert error.value.param == place


def test_what_the_template_does_not_show_is_named(smollm2_weights: Path) -> None:
    own = AutoTokenizer.from_pretrained(smollm2_weights)
    for request, place in (
        (supervised((ASKED, SAID), (ASKED, CALLED)), "examples.1.messages"),
        (dpo((SAID,), (CALLED,)), "pairs.0.rejected"),
    ):
        with pytest.raises(InvalidRequest, match="does not show tool calls") as error:
            count_tokens(own, request, CONTEXT, MANY, is_single=False)
        assert error.value.param == place


def test_fault_of_the_prompt_is_not_laid_on_the_turns_that_follow_it(smollm2_weights: Path) -> None:
    own = AutoTokenizer.from_pretrained(smollm2_weights)
    tools = ({"type": "function", "function": {"name": "weather"}},)
    follow_up = (SAID, ASKED, SAID)
    called = Pair(messages=(ASKED, CALLED, SEEN), preferred=follow_up, rejected=follow_up)
    with_tools = Pair(messages=(ASKED,), preferred=follow_up, rejected=follow_up, tools=tools)
    for pair, place in ((called, "pairs.0.messages"), (with_tools, "pairs.0.tools")):
        request = JobRequest(method=Method.DPO, pairs=(pair,), hyperparameters=VALUES)
        with pytest.raises(InvalidRequest, match="does not show") as error:
            count_tokens(own, request, CONTEXT, MANY, is_single=False)
        assert error.value.param == place


def test_many_learned_turns_are_refused_before_they_are_tokenised(tokenizer: Any) -> None:
    """Each learned turn has a prompt of its own, so the cost grows with the square of their number."""
    turns = (ASKED, Message(role="assistant", content="x" * 20)) * 100
    with pytest.raises(InvalidRequest, match="characters") as error:
        count_tokens(tokenizer, supervised(turns), 10**6, 4000, is_single=False)
    assert error.value.param == "examples"

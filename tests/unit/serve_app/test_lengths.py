from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from registry.errors import ContextLengthExceeded, InvalidRequest
from registry.records import Group, Message, RewardedResponse
from serve_app.lengths import count_tokens

CONTEXT = 64


@pytest.fixture
def tokenizer(smollm2_weights: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2_weights)


def group(prompt: str, *responses: str) -> Group:
    return Group(
        messages=(Message(role="user", content=prompt),),
        responses=tuple(RewardedResponse(content=response, reward=0) for response in responses),
    )


def test_every_response_counts_with_its_prompt_and_its_end(tokenizer: Any) -> None:
    groups = [group("Name a colour.", "Red.", "Blue, or 42 reds."), group("Hi", "Hello.")]
    expected = 0
    for messages, response in (
        ("Name a colour.", "Red."),
        ("Name a colour.", "Blue, or 42 reds."),
        ("Hi", "Hello."),
    ):
        conversation = [{"role": "user", "content": messages}]
        prompt = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
        expected += len(prompt) + len(tokenizer.encode(response)) + 1
    assert count_tokens(tokenizer, groups, CONTEXT, is_single=False) == expected


def test_too_long_a_response_is_named(tokenizer: Any) -> None:
    groups = [group("Hi", "Hello."), group("Hi", "Hello.", "x " * CONTEXT)]
    with pytest.raises(ContextLengthExceeded) as error:
        count_tokens(tokenizer, groups, CONTEXT, is_single=False)
    assert error.value.param == "groups.1.responses.1.content"
    with pytest.raises(ContextLengthExceeded) as error:
        count_tokens(tokenizer, groups[1:], CONTEXT, is_single=True)
    assert error.value.param == "responses.1.content"


def test_messages_that_the_template_refuses_are_named(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(InvalidRequest) as error:
        count_tokens(tokenizer, [group("Hi", "Hello.")], CONTEXT, is_single=True)
    assert (type(error.value), error.value.param) == (InvalidRequest, "messages")

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from registry.errors import ContextLengthExceeded, InvalidRequest
from registry.records import Message, RewardedResponse
from training.conversation import end_of_turn, tokenise

QUESTION = (Message(role="user", content="Name a colour."),)
CONTEXT = 2048

# The parts of DeepSeek-R1-Distill's template that matter: reasoning is dropped from earlier answers, and
# the generation prompt opens a new one.
REASONING_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<User>{{ m['content'] }}{% else %}"
    "<Assistant>{{ m['content'].split('</think>')[-1] }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<Assistant><think>\n{% endif %}"
)


def said(content: str, ends_turn: bool = True) -> RewardedResponse:
    return RewardedResponse(content=content, reward=1, ends_turn=ends_turn)


@pytest.fixture
def tokenizer(smollm2_weights: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2_weights)


def test_the_prompt_is_what_generation_starts_from(tokenizer: Any) -> None:
    exchange = tokenise(tokenizer, QUESTION, said("Blue."), CONTEXT)
    conversation = [{"role": "user", "content": "Name a colour."}]
    expected = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
    assert exchange.prompt_ids == expected
    assert tokenizer.decode(exchange.prompt_ids).endswith("<|im_start|>assistant\n")


def test_prompt_and_completion_are_the_template_with_the_answer(tokenizer: Any) -> None:
    exchange = tokenise(tokenizer, QUESTION, said("Blue, or 42 reds."), CONTEXT)
    conversation = [
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "Blue, or 42 reds."},
    ]
    whole = tokenizer.apply_chat_template(conversation, return_dict=False)
    both = exchange.prompt_ids + exchange.completion_ids
    assert both == whole[: len(both)]
    assert tokenizer.decode(whole[len(both) :]) == "\n"


def test_the_completion_ends_its_turn(tokenizer: Any) -> None:
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>") == tokenizer.eos_token_id
    assert tokenise(tokenizer, QUESTION, said("Blue."), CONTEXT).completion_ids[-1] == tokenizer.eos_token_id
    assert tokenise(tokenizer, QUESTION, said(""), CONTEXT).completion_ids == [tokenizer.eos_token_id]


def test_what_was_cut_does_not_end_its_turn(tokenizer: Any) -> None:
    whole = tokenise(tokenizer, QUESTION, said("Blue, like"), CONTEXT)
    cut = tokenise(tokenizer, QUESTION, said("Blue, like", ends_turn=False), CONTEXT)
    assert whole.completion_ids == [*cut.completion_ids, tokenizer.eos_token_id]


def test_what_was_cut_before_its_first_token_has_none(tokenizer: Any) -> None:
    assert tokenise(tokenizer, QUESTION, said("", ends_turn=False), CONTEXT).completion_ids == []
    assert tokenise(tokenizer, QUESTION, said(""), CONTEXT).completion_ids == [tokenizer.eos_token_id]


def test_no_token_spans_prompt_and_completion(tokenizer: Any) -> None:
    exchange = tokenise(tokenizer, QUESTION, said("\nBlue."), CONTEXT)
    assert exchange.prompt_ids == tokenise(tokenizer, QUESTION, said("Red"), CONTEXT).prompt_ids
    assert tokenizer.decode(exchange.completion_ids) == "\nBlue.<|im_end|>"


def test_reasoning_is_kept_whatever_the_template_does_to_earlier_answers(tokenizer: Any) -> None:
    tokenizer.chat_template = REASONING_TEMPLATE
    exchange = tokenise(tokenizer, QUESTION, said("The sky.</think>Blue."), CONTEXT)
    assert tokenizer.decode(exchange.prompt_ids) == "<User>Name a colour.<Assistant><think>\n"
    assert tokenizer.decode(exchange.completion_ids) == "The sky.</think>Blue.<|im_end|>"


def test_a_template_without_an_end_of_turn_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    with pytest.raises(InvalidRequest, match="end"):
        tokenise(tokenizer, QUESTION, said("Blue."), CONTEXT)


def test_messages_that_the_template_refuses_are_the_callers_error(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InvalidRequest, match="roles must alternate"):
        tokenise(tokenizer, QUESTION, said("Blue."), CONTEXT)


def test_too_long_an_exchange_says_both_numbers(tokenizer: Any) -> None:
    exchange = tokenise(tokenizer, QUESTION, said("Blue."), CONTEXT)
    num_tokens = len(exchange.prompt_ids) + len(exchange.completion_ids)
    tokenise(tokenizer, QUESTION, said("Blue."), num_tokens)
    with pytest.raises(ContextLengthExceeded, match=f"{num_tokens} tokens.*{num_tokens - 1}"):
        tokenise(tokenizer, QUESTION, said("Blue."), num_tokens - 1)


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, training.conversation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

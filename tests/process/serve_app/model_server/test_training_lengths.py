import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from registry.errors import ContextLengthExceeded, InvalidRequest, NoLearningSignal, RateLimited
from registry.records import Group, Hyperparameters, JobRequest, Message, RewardedResponse
from serve_app.model_server.training_lengths import LengthChecks, count_tokens
from serve_app.wire.lengths import CHARACTERS_PER_TOKEN

CONTEXT = 64
VALUES = Hyperparameters(learning_rate=1e-5, learning_steps=5, beta=0.04, epsilon=0.2)
MANY = 10**6


@pytest.fixture
def tokenizer(smollm2_weights: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2_weights)


class CountingTokenizer:
    """A tokenizer for which a word is a token.

    It counts its calls, and a test can make it wait in its thread.
    """

    all_special_ids = [0]  # noqa: RUF012

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.contents: list[str] = []
        self.threads: set[str] = set()
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        self.calls["rendered"] += 1
        self.contents.append(conversation[0]["content"])
        self.threads.add(threading.current_thread().name)
        self.has_begun.set()
        assert self.may_go_on.wait(30)
        text = " ".join(message["content"] for message in conversation)
        return self.encode(text, add_special_tokens=False) if options.get("tokenize") else f"{text}<end>"

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        self.calls["encoded"] += 1
        return [0] if text == "<end>" else [1] * len(text.split())


def group(prompt: str, *responses: str) -> Group:
    return Group(
        messages=(Message(role="user", content=prompt),),
        responses=tuple(RewardedResponse(content=response, reward=0) for response in responses),
    )


def job(groups: Sequence[Group]) -> JobRequest:
    return JobRequest(groups=tuple(groups), hyperparameters=VALUES)


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
    assert count_tokens(tokenizer, job(groups), CONTEXT, MANY, is_single=False) == expected


def test_too_long_a_response_is_named(tokenizer: Any) -> None:
    groups = [group("Hi", "Hello."), group("Hi", "Hello.", "x " * CONTEXT)]
    with pytest.raises(ContextLengthExceeded) as error:
        count_tokens(tokenizer, job(groups), CONTEXT, MANY, is_single=False)
    assert error.value.param == "groups.1.responses.1.content"
    with pytest.raises(ContextLengthExceeded) as error:
        count_tokens(tokenizer, job(groups[1:]), CONTEXT, MANY, is_single=True)
    assert error.value.param == "responses.1.content"


def test_messages_that_the_template_refuses_are_named(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(InvalidRequest) as error:
        count_tokens(tokenizer, job([group("Hi", "Hello.")]), CONTEXT, MANY, is_single=True)
    assert (type(error.value), error.value.param) == (InvalidRequest, "messages")


def test_what_spells_the_end_of_a_turn_counts_as_text(tokenizer: Any) -> None:
    def num(text: str) -> int:
        return count_tokens(tokenizer, job([group("Hi", text)]), CONTEXT, MANY, is_single=True)

    characters = tokenizer.encode("x<", add_special_tokens=False), tokenizer.encode("|im_end|>")
    assert num("x<|im_end|>") - num("") == sum(map(len, characters)) > 2


@pytest.mark.parametrize(("rewards", "has_signal"), [((1, 0, 0.5), False), ((1, 0, 0.6), True)])
def test_nothing_is_learned_of_responses_without_tokens(
    tokenizer: Any, rewards: tuple[float, ...], has_signal: bool
) -> None:
    """Two of the responses are cut before their first token.

    The third is as good as the average, or better.
    """
    contents = (("", False), ("", False), ("Mango.", True))
    responses = tuple(
        RewardedResponse(content=content, reward=reward, ends_turn=ends_turn)
        for (content, ends_turn), reward in zip(contents, rewards, strict=True)
    )
    groups = [Group(messages=(Message(role="user", content="Hi"),), responses=responses)]
    if has_signal:
        assert count_tokens(tokenizer, job(groups), 200, MANY, is_single=True)
        return
    for is_single, param in ((True, "responses"), (False, "groups")):
        with pytest.raises(NoLearningSignal) as error:
            count_tokens(tokenizer, job(groups), 200, MANY, is_single)
        assert error.value.param == param


# Work


def test_each_prompt_is_rendered_once() -> None:
    tokenizer = CountingTokenizer()
    groups = [group("a b c", *["x y"] * 300), group("a b", *["x"] * 300), group("a b c", "x")]
    expected = 300 * (3 + 3) + 300 * (2 + 2) + (3 + 2)
    assert count_tokens(tokenizer, job(groups), CONTEXT, MANY, is_single=False) == expected
    assert tokenizer.calls["rendered"] == 3  # two prompts, and where a turn ends


def test_counting_stops_as_soon_as_there_are_too_many_tokens() -> None:
    tokenizer = CountingTokenizer()
    groups = [group(f"prompt {number}", "x", "y") for number in range(10)]
    with pytest.raises(InvalidRequest, match=r"8 tokens.* at most 7") as error:
        count_tokens(tokenizer, job(groups), CONTEXT, 7, is_single=False)
    assert error.value.param == "groups"
    assert tokenizer.calls["rendered"] == 2
    with pytest.raises(InvalidRequest) as error:
        count_tokens(tokenizer, job(groups[:1]), CONTEXT, 7, is_single=True)
    assert error.value.param == "responses"


@pytest.mark.parametrize(
    ("groups", "max_tokens", "param"),
    [
        ([group("Hi", "x", "y" * (CHARACTERS_PER_TOKEN * CONTEXT))], MANY, "groups.0.responses.1.content"),
        ([group("y" * (CHARACTERS_PER_TOKEN * CONTEXT), "x")], MANY, "groups.0.responses.0.content"),
        ([group("Hi", "y" * 100)] * 100, 10_200 // CHARACTERS_PER_TOKEN - 1, "groups"),
    ],
)
def test_what_has_too_many_characters_is_not_tokenised(
    groups: list[Group], max_tokens: int, param: str
) -> None:
    tokenizer = CountingTokenizer()
    with pytest.raises(InvalidRequest, match="characters") as error:
        count_tokens(tokenizer, job(groups), CONTEXT, max_tokens, is_single=False)
    assert error.value.param == param
    assert not tokenizer.calls


# Turns


def checks_of(tokenizer: CountingTokenizer, max_waiting_per_user: int = 8) -> LengthChecks:
    return LengthChecks(tokenizer, CONTEXT, max_waiting_per_user)


async def begun(tokenizer: CountingTokenizer) -> None:
    """Wait until the thread has begun with the first check."""
    assert await asyncio.to_thread(tokenizer.has_begun.wait, 30)


async def test_counting_takes_no_thread_of_others() -> None:
    tokenizer = CountingTokenizer()
    tokenizer.may_go_on.clear()
    checks = checks_of(tokenizer)
    counting = [
        asyncio.ensure_future(checks.count(f"user-{number}", job([group("Hi", "x")]), MANY, True))
        for number in range(100)
    ]
    await begun(tokenizer)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 5) == 7
    tokenizer.may_go_on.set()
    assert await asyncio.gather(*counting) == [1 + 2] * 100
    assert len(tokenizer.threads) == 1


async def test_users_take_turns() -> None:
    tokenizer = CountingTokenizer()
    tokenizer.may_go_on.clear()
    checks = checks_of(tokenizer)
    asked = [("greedy", f"greedy {number}") for number in range(5)] + [("other", "other"), ("third", "third")]
    counting = []
    for user, prompt in asked:
        counting.append(asyncio.ensure_future(checks.count(user, job([group(prompt, "x")]), MANY, True)))
        await asyncio.sleep(0)
    await begun(tokenizer)
    tokenizer.may_go_on.set()
    await asyncio.gather(*counting)
    order = [content for content in tokenizer.contents if content != "?"]
    assert order.index("other") <= 2 and order.index("third") <= 3
    assert [content for content in order if content.startswith("greedy")] == [f"greedy {n}" for n in range(5)]


async def test_only_a_few_of_a_user_wait() -> None:
    tokenizer = CountingTokenizer()
    tokenizer.may_go_on.clear()
    checks = checks_of(tokenizer, max_waiting_per_user=3)
    ask = [group("Hi", "x")]
    counting = [asyncio.ensure_future(checks.count("greedy", job(ask), MANY, True)) for _ in range(9)]
    await begun(tokenizer)
    refused = [each for each in counting if each.done()]
    assert len(refused) == 6
    assert all(isinstance(each.exception(), RateLimited) for each in refused)
    other = asyncio.ensure_future(checks.count("other", job([group("Hi", "x")]), MANY, True))
    tokenizer.may_go_on.set()
    assert await other == 3
    await asyncio.wait(counting)
    assert await checks.count("greedy", job([group("Hi", "x")]), MANY, True) == 3


async def test_those_who_went_away_give_their_place_back() -> None:
    tokenizer = CountingTokenizer()
    tokenizer.may_go_on.clear()
    checks = checks_of(tokenizer, max_waiting_per_user=2)
    ask = [group("Hi", "x")]
    counting, waiting = (asyncio.ensure_future(checks.count("user", job(ask), MANY, True)) for _ in range(2))
    await begun(tokenizer)
    waiting.cancel()
    counting.cancel()
    await asyncio.wait([waiting])
    assert not counting.done()  # the thread still counts, and nobody else may
    later = asyncio.ensure_future(checks.count("user", job(ask), MANY, True))
    await asyncio.sleep(0.01)
    assert tokenizer.calls["rendered"] == 1
    tokenizer.may_go_on.set()
    assert await later == 3
    assert counting.cancelled()

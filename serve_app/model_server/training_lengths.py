"""Counts the tokens of a training with the tokenisation that the trainer uses.

    JobRequest  --characters-->  a turn among the users  -->  one thread: tokens, until there are too many

Counting is expensive, and the training may still be refused. Therefore it has a separate thread, so that
generations do not wait for it. Cheap checks come first. Only a few requests of each user may wait.
"""

import asyncio
import functools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from registry.errors import ContextLengthExceeded, InvalidRequest, NoLearningSignal, RateLimited
from registry.records import JobRequest, RewardedResponse
from serve_app.model_server.taught_conversations import (
    GivenTurns,
    TaughtConversation,
    conversations_of,
    field_of_all,
)
from serve_app.wire.lengths import CHARACTERS_PER_TOKEN, check_characters
from training.advantages import advantages
from training.conversation import ChatTokenizer, end_of_turn, tokenise_completion, tokenise_prompt
from training.learning_signal import NOTHING_LEFT, is_lost
from training.transcript import check_shown, exchanges_of

RETRY_AFTER_S = 2


def count_tokens(
    tokenizer: ChatTokenizer,
    request: JobRequest,
    max_context_tokens: int,
    max_tokens: int,
    is_single: bool,
) -> int:
    """Returns the number of tokens of all rows, each with its prompt. Equal prompts are tokenised once.

    `is_single`: the request has one group and no list of groups. The `param` of an error depends on it.

    Raises:
        ContextLengthExceeded: a conversation is too long for the model; `param` names it.
        InvalidRequest: the chat template cannot render a conversation, or there are more than `max_tokens`
            tokens. Counting stops at this bound.
        NoLearningSignal: no response with a non-zero advantage has tokens.
    """
    _check_all_characters(request, max_context_tokens, max_tokens, is_single)
    lengths = _Lengths(tokenizer, max_context_tokens)
    num_tokens = 0
    num_learned: list[int] = []
    for conversation in conversations_of(request, is_single):
        each, learned = lengths.of(conversation)
        num_learned.append(learned)
        num_tokens += each
        if num_tokens > max_tokens:
            raise _too_many("tokens", num_tokens, max_tokens, request, is_single)
    scores = [a for group in request.groups for a in advantages([r.reward for r in group.responses])]
    if request.groups and is_lost(zip(scores, num_learned, strict=True)):
        raise NoLearningSignal(NOTHING_LEFT, field_of_all(request, is_single))
    return num_tokens


class _Lengths:
    """Counts the tokens of single conversations of one training."""

    def __init__(self, tokenizer: ChatTokenizer, max_context_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_context_tokens = max_context_tokens
        self._end = functools.cache(lambda: end_of_turn(tokenizer))
        self._prompt_lengths: dict[str, int] = {}

    def of(self, conversation: TaughtConversation) -> tuple[int, int]:
        """Returns the number of tokens of all rows of a conversation, and how many of them are learned.

        Raises: ContextLengthExceeded, InvalidRequest; their `param` is the path of the field at fault.
        """
        num_prompt_tokens = self._num_prompt_tokens(conversation.given)
        with _named(conversation.path):
            if conversation.is_text:
                return self._of_text(conversation, num_prompt_tokens)
            return self._of_turns(conversation)

    def _num_prompt_tokens(self, given: GivenTurns) -> int:
        """Returns the number of tokens of the prompt that the given turns are."""
        if given.key not in self._prompt_lengths:
            with _named(given.tools_path):
                check_shown(self._tokenizer, (), given.tools)
            with _named(given.path):
                check_shown(self._tokenizer, given.messages, given.tools)
                prompt_ids = tokenise_prompt(self._tokenizer, given.messages, given.tools)
            self._prompt_lengths[given.key] = len(prompt_ids)
        return self._prompt_lengths[given.key]

    def _of_text(self, conversation: TaughtConversation, num_prompt_tokens: int) -> tuple[int, int]:
        (turn,) = conversation.turns
        response = RewardedResponse(content=turn.content, reward=0, ends_turn=conversation.ends_turn)
        with _named(conversation.given.path):
            num_learned = len(tokenise_completion(self._tokenizer, response, self._end))
        num_tokens = num_prompt_tokens + num_learned
        if num_tokens > self._max_context_tokens:
            raise ContextLengthExceeded(
                f"the messages and a response have {num_tokens} tokens; "
                f"the model takes {self._max_context_tokens}"
            )
        return num_tokens, num_learned

    def _of_turns(self, conversation: TaughtConversation) -> tuple[int, int]:
        given = conversation.given
        rows = exchanges_of(
            self._tokenizer,
            (*given.messages, *conversation.turns),
            given.tools,
            self._max_context_tokens,
            len(given.messages),
            conversation.ends_turn,
        )
        num_tokens = sum(len(row.prompt_ids) + len(row.completion_ids) for row in rows)
        return num_tokens, sum(row.num_trained for row in rows)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Gives the errors of the block the path of a field, unless they have one. Raises: InvalidRequest."""
    try:
        yield
    except InvalidRequest as error:
        raise type(error)(error.message, error.param or path) from None


def _check_all_characters(
    request: JobRequest, max_context_tokens: int, max_tokens: int, is_single: bool
) -> None:
    """Checks the numbers of characters. Raises: ContextLengthExceeded, InvalidRequest."""
    total, most = 0, max_tokens * CHARACTERS_PER_TOKEN
    for conversation in conversations_of(request, is_single):
        check_characters(conversation.num_characters, max_context_tokens, conversation.path)
        total += conversation.num_rendered_characters
        if total > most:
            raise _too_many("characters", total, most, request, is_single)


def _too_many(unit: str, number: int, most: int, request: JobRequest, is_single: bool) -> InvalidRequest:
    return InvalidRequest(
        f"the learned turns, each with everything before it, have at least {number} {unit}; "
        f"those of one training may have at most {most}",
        field_of_all(request, is_single),
    )


class LengthChecks:
    """The token counts of one replica: one at a time, with turns of the users. One event loop uses it."""

    def __init__(self, tokenizer: ChatTokenizer, max_context_tokens: int, max_waiting_per_user: int) -> None:
        self._tokenizer = tokenizer
        self._max_context_tokens = max_context_tokens
        self.max_waiting_per_user = max_waiting_per_user
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lengths")
        self._num_of: Counter[str] = Counter()
        self._user_turns: dict[str, asyncio.Lock] = {}
        self._turn = asyncio.Lock()

    async def count(self, user: str, request: JobRequest, max_tokens: int, is_single: bool) -> int:
        """Waits for a turn and returns the result of `count_tokens`. Raises also: RateLimited."""
        if self._num_of[user] >= self.max_waiting_per_user:
            raise RateLimited(
                f"{self.max_waiting_per_user} trainings of yours wait for their tokens to be counted",
                retry_after_s=RETRY_AFTER_S,
            )
        self._num_of[user] += 1
        try:
            # One request of each user waits for the turn. Turns are given in the order of arrival.
            async with self._user_turns.setdefault(user, asyncio.Lock()), self._turn:
                return await self._count(request, max_tokens, is_single)
        finally:
            self._num_of[user] -= 1
            if not self._num_of[user]:
                del self._num_of[user], self._user_turns[user]

    async def _count(self, request: JobRequest, max_tokens: int, is_single: bool) -> int:
        given = (self._tokenizer, request, self._max_context_tokens, max_tokens, is_single)
        counting = asyncio.get_running_loop().run_in_executor(self._thread, count_tokens, *given)
        try:
            return await asyncio.shield(counting)
        finally:
            # If the client went away, the thread still counts. The next turn begins when it has ended.
            await asyncio.wait([counting])

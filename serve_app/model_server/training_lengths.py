"""Counts the tokens of a training's responses with the tokenisation that the trainer uses.

    groups  --characters-->  a turn among the users  -->  one thread: tokens, until there are too many

Counting is expensive, and the training may still be refused. Therefore it has a separate thread, so that
generations do not wait for it. Cheap checks come first. Only a few requests of each user may wait.
"""

import asyncio
import functools
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from registry.errors import ContextLengthExceeded, InvalidRequest, NoLearningSignal, RateLimited
from registry.records import Group, Message
from serve_app.wire.lengths import CHARACTERS_PER_TOKEN, check_characters
from training.advantages import advantages
from training.conversation import ChatTokenizer, end_of_turn, tokenise_completion, tokenise_prompt
from training.learning_signal import NOTHING_LEFT, is_lost

RETRY_AFTER_S = 2


def count_tokens(
    tokenizer: ChatTokenizer,
    groups: Sequence[Group],
    max_context_tokens: int,
    max_tokens: int,
    is_single: bool,
) -> int:
    """Returns the number of tokens of all responses, each with its prompt. Equal prompts are tokenised once.

    `is_single`: the request has one group and no list of groups. The `param` of an error depends on it.

    Raises:
        ContextLengthExceeded: a response with its prompt is too long for the model; `param` names it.
        InvalidRequest: the chat template cannot render the conversation, or there are more than `max_tokens`
            tokens. Counting stops at this bound.
        NoLearningSignal: no response with a non-zero advantage has tokens.
    """
    _check_all_characters(groups, max_context_tokens, max_tokens, is_single)
    end = functools.cache(lambda: end_of_turn(tokenizer))
    prompt_lengths: dict[tuple[Message, ...], int] = {}
    num_tokens = 0
    sizes: list[tuple[float, int]] = []
    for g, group in enumerate(groups):
        prefix = _prefix(g, is_single)
        try:
            if group.messages not in prompt_lengths:
                prompt_lengths[group.messages] = len(tokenise_prompt(tokenizer, group.messages))
            scores = advantages([response.reward for response in group.responses])
            for r, response in enumerate(group.responses):
                num_completion_tokens = len(tokenise_completion(tokenizer, response, end))
                sizes.append((scores[r], num_completion_tokens))
                each = prompt_lengths[group.messages] + num_completion_tokens
                if each > max_context_tokens:
                    raise ContextLengthExceeded(
                        f"the messages and a response have {each} tokens; "
                        f"the model takes {max_context_tokens}",
                        f"{prefix}responses.{r}.content",
                    )
                num_tokens += each
                if num_tokens > max_tokens:
                    raise _too_many("tokens", num_tokens, max_tokens, is_single)
        except InvalidRequest as error:
            if error.param is not None:
                raise
            raise InvalidRequest(error.message, f"{prefix}messages") from None
    if is_lost(sizes):
        raise NoLearningSignal(NOTHING_LEFT, "responses" if is_single else "groups")
    return num_tokens


def _check_all_characters(
    groups: Sequence[Group], max_context_tokens: int, max_tokens: int, is_single: bool
) -> None:
    """Checks the numbers of characters. Raises: ContextLengthExceeded, InvalidRequest."""
    total = 0
    for g, group in enumerate(groups):
        of_prompt = sum(len(message.content) for message in group.messages)
        for r, response in enumerate(group.responses):
            each = of_prompt + len(response.content)
            check_characters(each, max_context_tokens, f"{_prefix(g, is_single)}responses.{r}.content")
            total += each
    if total > max_tokens * CHARACTERS_PER_TOKEN:
        raise _too_many("characters", total, max_tokens * CHARACTERS_PER_TOKEN, is_single)


def _prefix(g: int, is_single: bool) -> str:
    return "" if is_single else f"groups.{g}."


def _too_many(unit: str, number: int, most: int, is_single: bool) -> InvalidRequest:
    return InvalidRequest(
        f"the responses, each with its prompt, have at least {number} {unit}; "
        f"those of one training may have at most {most}",
        "responses" if is_single else "groups",
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

    async def count(self, user: str, groups: Sequence[Group], max_tokens: int, is_single: bool) -> int:
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
                return await self._count(groups, max_tokens, is_single)
        finally:
            self._num_of[user] -= 1
            if not self._num_of[user]:
                del self._num_of[user], self._user_turns[user]

    async def _count(self, groups: Sequence[Group], max_tokens: int, is_single: bool) -> int:
        given = (self._tokenizer, groups, self._max_context_tokens, max_tokens, is_single)
        counting = asyncio.get_running_loop().run_in_executor(self._thread, count_tokens, *given)
        try:
            return await asyncio.shield(counting)
        finally:
            # If the client went away, the thread still counts. The next turn begins when it has ended.
            await asyncio.wait([counting])

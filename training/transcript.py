"""Turns whole conversations into token ids: each learned turn with the prompt that the model would see.

    turns before  --chat template, tools, generation prompt-->  prompt_ids      exactly what generation sees
    text turn     --plain tokens-->  ids + [end of turn]        completion_ids  what it would sample
    tool calls    --chat template, behind that prompt-->  ids up to the end of the turn

If the prompt of the next learned turn begins with this prompt and this completion, both turns are one row,
and the tokens between them, such as the results of tools, are not learned. Otherwise a new row begins.
Templates that drop or rewrite earlier turns, as DeepSeek-R1's does with reasoning, make a row for each turn.
Every turn is therefore learned behind the prompt that the model would really see, and nothing is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from registry.errors import ContextLengthExceeded, InvalidRequest
from registry.records import Group, Message, RewardedResponse
from training.chat_template import ToolSupport, tool_support
from training.conversation import (
    ChatTokenizer,
    Exchange,
    end_of_turn,
    tokenise,
    tokenise_conversation,
    tokenise_prompt,
)
from training.plain_text import encode

Tools = Sequence[dict[str, Any]]


def exchanges_of(
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    tools: Tools,
    max_context_tokens: int,
    num_given: int = 0,
    ends_turn: bool = True,
) -> list[Exchange]:
    """The rows of a conversation. The learned turns are those of the assistant with `is_trained`.

    Args:
        num_given: the number of messages at the beginning that are given, so that none of them is learned.
        ends_turn: false: the last turn was cut, so its end is not learned.

    Raises:
        InvalidRequest: no turn is learned, or the chat template cannot render the conversation.
        ContextLengthExceeded: a turn and the turns before it are longer than `max_context_tokens`.
    """
    learned = learned_turns(messages, num_given)
    if not learned:
        raise InvalidRequest("the conversation has no turn of the assistant to learn")
    check_shown(tokenizer, messages, tools)
    rows: list[Exchange] = []
    for index in learned:
        is_cut = not ends_turn and index == len(messages) - 1
        prompt_ids = tokenise_prompt(tokenizer, messages[:index], tools)
        completion_ids = _completion(tokenizer, messages[: index + 1], tools, prompt_ids, is_cut)
        num_tokens = len(prompt_ids) + len(completion_ids)
        if num_tokens > max_context_tokens:
            raise ContextLengthExceeded(
                f"the conversation has {num_tokens} tokens up to the end of message {index + 1}; "
                f"the model takes {max_context_tokens}"
            )
        if completion_ids:
            _append(rows, prompt_ids, completion_ids)
    return rows


def response_exchanges(
    tokenizer: ChatTokenizer, group: Group, response: RewardedResponse, max_context_tokens: int
) -> list[Exchange]:
    """The rows of a response to the messages of a group, which is a text or a trajectory.

    A row without completion tokens stands for a text that was cut before its first token.

    Raises: InvalidRequest, ContextLengthExceeded.
    """
    if not response.messages:
        check_shown(tokenizer, group.messages, group.tools)
        return [tokenise(tokenizer, group.messages, response, max_context_tokens, group.tools)]
    messages = (*group.messages, *response.messages)
    given, ends_turn = len(group.messages), response.ends_turn
    return exchanges_of(tokenizer, messages, group.tools, max_context_tokens, given, ends_turn)


def learned_turns(messages: Sequence[Message], num_given: int = 0) -> list[int]:
    """The indices of the assistant's turns that are learned, without the first `num_given` messages."""
    return [
        index
        for index, message in enumerate(messages)
        if index >= num_given and message.role == "assistant" and message.is_trained
    ]


def _append(rows: list[Exchange], prompt_ids: list[int], completion_ids: list[int]) -> None:
    """Add a learned turn to the last row, if its prompt continues that row, or else as a new row."""
    if rows:
        last = rows[-1]
        before = last.prompt_ids + last.completion_ids
        if prompt_ids[: len(before)] == before:
            between = prompt_ids[len(before) :]
            was_trained = last.is_trained or [True] * len(last.completion_ids)
            rows[-1] = Exchange(
                last.prompt_ids,
                last.completion_ids + between + completion_ids,
                was_trained + [False] * len(between) + [True] * len(completion_ids),
            )
            return
    rows.append(Exchange(prompt_ids, completion_ids))


def _completion(
    tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Tools, prompt_ids: list[int], is_cut: bool
) -> list[int]:
    """The tokens of the last of `messages`, behind `prompt_ids`."""
    turn = messages[-1]
    if not turn.tool_calls:
        completion_ids = encode(tokenizer, turn.content)
        return completion_ids if is_cut else [*completion_ids, _facts_of(tokenizer).end_of_turn]
    whole = tokenise_conversation(tokenizer, messages, tools)
    if whole[: len(prompt_ids)] != prompt_ids:
        raise InvalidRequest(
            "the model's chat template does not write tool calls behind its generation prompt, "
            "so they cannot be learned"
        )
    rest = whole[len(prompt_ids) :]
    end = _facts_of(tokenizer).end_of_turn
    if end not in rest:
        raise InvalidRequest("the model's chat template does not end a turn with tool calls like other turns")
    return rest[: rest.index(end) + (not is_cut)]


def check_shown(tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Tools) -> None:
    """Raises: InvalidRequest, if the chat template hides tools, tool calls or their results."""
    has_calls = any(message.tool_calls for message in messages)
    has_results = any(message.role == "tool" for message in messages)
    if not (tools or has_calls or has_results):
        return
    shown = _facts_of(tokenizer).tool_support
    for is_used, is_shown, name in (
        (bool(tools), shown.tools, "tools"),
        (has_calls, shown.calls, "tool calls"),
        (has_results, shown.results, "the results of tools"),
    ):
        if is_used and not is_shown:
            raise InvalidRequest(f"the model's chat template does not show {name} to the model")


@dataclass
class _TemplateFacts:
    """Facts about one chat template of one tokenizer, which are found out by rendering probes."""

    template: Any
    end_of_turn: int
    tool_support: ToolSupport


_known: WeakKeyDictionary[Any, _TemplateFacts] = WeakKeyDictionary()


def _facts_of(tokenizer: Any) -> _TemplateFacts:
    template = getattr(tokenizer, "chat_template", None)
    known = _known.get(tokenizer)
    if known is None or known.template != template:
        known = _TemplateFacts(template, end_of_turn(tokenizer), tool_support(tokenizer))
        _known[tokenizer] = known
    return known

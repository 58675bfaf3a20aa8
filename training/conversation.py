"""One exchange as token ids: the prompt that the model was given, and its answer.

    messages --chat template, generation prompt--> prompt_ids       exactly what generation starts from
    response --plain tokens--> ids + [end of turn] completion_ids   exactly what generation would sample

A response that was cut (by `max_tokens` or by a stop sequence) has no end-of-turn token. The policy did not
sample one there, and training on one would teach it to stop in the middle. A response that was cut before
its first token has no tokens at all.

The text of a response is not sent through the template. Templates change it: DeepSeek-R1's drops the
reasoning and the `<think>` that its generation prompt opens, and Llama's trims it. Tokens could also merge
across the border between prompt and response. The policy writes token by token after the generation prompt
until the end of its turn. Training changes the probabilities of exactly those tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from registry.errors import ContextLengthExceeded, InvalidRequest, TigerError
from registry.records import Message, RewardedResponse
from training.plain_text import apply_template, encode

_PROBE_ANSWER = "4815162342"


class ChatTokenizer(Protocol):
    """The part of a transformers tokenizer that is used here. As a Protocol it needs no import of torch."""

    all_special_ids: list[int]

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> Any: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True)
class Exchange:
    """The token ids of one prompt and one completion.

    A completion of several turns has tokens that the model did not write, such as the results of tools.
    `is_trained` says of each completion token if it is learned; None: all are. The last one always is.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    is_trained: list[bool] | None = None

    @property
    def num_trained(self) -> int:
        """The number of completion tokens that are learned."""
        return len(self.completion_ids) if self.is_trained is None else sum(self.is_trained)


def tokenise(
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    response: RewardedResponse,
    max_context_tokens: int,
    tools: Sequence[dict[str, Any]] = (),
) -> Exchange:
    """The token ids of `response`, which is a text, as the answer to `messages`.

    Raises:
        InvalidRequest: the model's chat template refuses the messages, or ends no turn.
        ContextLengthExceeded: prompt and completion together are longer than `max_context_tokens`.
    """
    prompt_ids = tokenise_prompt(tokenizer, messages, tools)
    completion_ids = tokenise_completion(tokenizer, response, lambda: end_of_turn(tokenizer))
    exchange = Exchange(prompt_ids, completion_ids)
    num_tokens = len(exchange.prompt_ids) + len(exchange.completion_ids)
    if num_tokens > max_context_tokens:
        raise ContextLengthExceeded(
            f"the messages and a response have {num_tokens} tokens; the model takes {max_context_tokens}"
        )
    return exchange


def tokenise_prompt(
    tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
) -> list[int]:
    """The token ids that generation starts from.

    Raises:
        InvalidRequest: the model's chat template refuses the messages.
    """
    return _rendered_ids(tokenizer, messages, tools, add_generation_prompt=True)


def tokenise_conversation(
    tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
) -> list[int]:
    """The token ids of the messages as the template writes them, without a generation prompt.

    Raises:
        InvalidRequest: the model's chat template refuses the messages.
    """
    return _rendered_ids(tokenizer, messages, tools)


def _rendered_ids(
    tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Sequence[dict[str, Any]], **options: Any
) -> list[int]:
    conversation = [_turn(message) for message in messages]
    if tools:
        options["tools"] = [_tool(tool) for tool in tools]
    try:
        return apply_template(tokenizer, conversation, **options)
    except TigerError:
        raise
    except Exception as error:  # a template is a program and may raise anything
        raise InvalidRequest(f"the model's chat template refuses these messages: {error}") from error


def _turn(message: Message) -> dict[str, Any]:
    """A message for a chat template, with the same fields in the same order as vLLM gives to it."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        turn["name"] = message.name
    return turn


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool for a chat template, as vLLM gives it: with a null for a part that the request leaves out."""
    given = tool["function"]
    function = {name: given.get(name) for name in ("name", "description", "parameters")}
    if given.get("strict") is not None:
        function["strict"] = given["strict"]
    return {"type": "function", "function": function}


def tokenise_completion(
    tokenizer: ChatTokenizer, response: RewardedResponse, end: Callable[[], int]
) -> list[int]:
    """The tokens that generation would have sampled; `end` gives the token that closes the turn.

    A response that was cut before its first token has no tokens.
    """
    completion_ids = encode(tokenizer, response.content)
    if response.ends_turn:
        completion_ids = [*completion_ids, end()]
    return completion_ids


def end_of_turn(tokenizer: ChatTokenizer) -> int:
    """The token id that closes an assistant's turn: the first special token that the template puts after it.

    The tokenizer's `eos_token` is not used, because in some models it ends documents and not turns.

    Raises:
        InvalidRequest: the template puts no special token there, so a completion has no end to learn.
    """
    probe = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE_ANSWER}]
    text: str = tokenizer.apply_chat_template(probe, tokenize=False)
    special = set(tokenizer.all_special_ids)
    for token in tokenizer.encode(text.rpartition(_PROBE_ANSWER)[2], add_special_tokens=False):
        if token in special:
            return token
    raise InvalidRequest("the model's chat template does not end the assistant's turn with a special token")

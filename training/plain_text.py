"""What people write is text to a model, also where it spells a control token; the template alone makes these.

    messages, tools  --each such spelling hidden-->  the chat template  -->  text
                     -->  the template's tokens named, the spellings shown again  -->  ids

A conversation that spells no added token of the model's goes the plain way, through the tokenizer as it is.
In any other one, each spelling is hidden behind a placeholder of letters and digits while the template is
rendered. The template neither trims nor escapes it, and where it looks into the content it sees no control
token there. The one exception is `</think>` in a model's own turn: DeepSeek's and Qwen's templates take the
reasoning out of earlier turns there, and still do.
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training.added_tokens import AddedTokens

Render = Callable[[Any, dict[str, Any]], Any]
OF_THE_SERVER = ("chat_template",)
"""Of the options of a template: what no user wrote."""
FIELDS = frozenset(
    {
        *("role", "content", "type", "text", "refusal", "name", "reasoning", "reasoning_content", "thinking"),
        *("tool_calls", "tool_call_id", "id", "function", "arguments", "description", "parameters"),
        *("properties", "required", "items", "enum", "title"),
    }
)
"""By these names templates find the parts of messages and tools: a token `<text>` must not hide them."""
KINDS = ("role", "type")
"""The fields by whose values, a few words, templates tell the kinds of messages and parts apart."""


def apply_template(tokenizer: Any, conversation: Sequence[Any], **options: Any) -> list[int]:
    """As a tokenizer's `apply_chat_template`. Raises: TemplateError, InvalidRequest."""

    def render(messages: Any, given: dict[str, Any]) -> Any:
        return tokenizer.apply_chat_template(messages, **{"tokenize": True, "return_dict": False, **given})

    return list(rendered(tokenizer, conversation, options, render))


def rendered(tokenizer: Any, conversation: Sequence[Any], options: dict[str, Any], render: Render) -> Any:
    """What `render` makes of a conversation and a template's options; ids, if one of them spells a token.

    Raises: TemplateError, InvalidRequest.
    """
    hidden = HiddenSpellings(AddedTokens.of(tokenizer))
    messages = hidden.hide(conversation)
    given = {name: hidden.hide_option(name, value) for name, value in options.items()}
    if not hidden:
        return render(conversation, options)
    try:
        text = render(messages, {**given, "tokenize": False})
    except Exception as error:  # its words may be of the content
        error.args = tuple(hidden.show(arg) if isinstance(arg, str) else arg for arg in error.args)
        raise
    return hidden.encode(text)


def is_spelled_in(tokenizer: Any, value: Any) -> bool:
    """Whether there is an added token's text in what may be whatever JSON has."""
    hidden = HiddenSpellings(AddedTokens.of(tokenizer))
    hidden.hide(value)
    return bool(hidden)


def encode(tokenizer: Any, answer: str) -> list[int]:
    """The ids of what a model said, without a template."""
    tokens = AddedTokens.of(tokenizer)
    if not tokens.spellings(models_own=True).are_in(answer):
        return list(tokenizer.encode(answer, add_special_tokens=False))
    hidden = HiddenSpellings(tokens)
    return hidden.encode(hidden.hide(answer, models_own=True))


class HiddenSpellings:
    """What spells added tokens in one conversation, by the placeholders that stand for it.

    It is true if there is any. No text of the conversation holds a placeholder: nobody can guess its number.
    """

    def __init__(self, tokens: AddedTokens) -> None:
        self._tokens = tokens
        self._number = f"{secrets.randbelow(10**16):016}"
        self._texts: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._texts)

    def hide(self, value: Any, models_own: bool = False) -> Any:
        """A copy of `value`, which may be whatever JSON has, with placeholders in all its texts.

        `models_own`: it is what the model said itself.
        """
        if isinstance(value, str):
            return self._hide_in(value, models_own)
        if isinstance(value, Mapping):
            is_answer = value.get("role") == "assistant"
            return {
                self._name(key): self._word(each)
                if key in KINDS
                else self.hide(each, models_own or (is_answer and key == "content"))
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.hide(each, models_own) for each in value]
        return value

    def hide_option(self, name: str, value: Any) -> Any:
        return value if name in OF_THE_SERVER else self._word(value)

    def _name(self, key: Any) -> Any:
        return self._word(key) if key in FIELDS else self.hide(key)

    def _word(self, value: Any) -> Any:
        """A word that means something to the template is hidden only where it is a token as a whole."""
        is_word = isinstance(value, str) and not self._tokens.spellings(models_own=False).are_in(value)
        return value if is_word else self.hide(value)

    def _hide_in(self, text: str, models_own: bool) -> str:
        pieces, end = [], 0
        for start, stop in self._tokens.spellings(models_own).spans(text):
            pieces += [text[end:start], self._placeholder(text[start:stop])]
            end = stop
        return "".join([*pieces, text[end:]])

    def _placeholder(self, text: str) -> str:
        self._texts.append(text)
        return f"zq{self._number}z{len(self._texts) - 1}z"

    def show(self, text: str) -> str:
        """With what the placeholders stand for."""
        return re.sub(rf"zq{self._number}z(\d+)z", lambda match: self._texts[int(match[1])], text)

    def encode(self, text: str) -> list[int]:
        """The ids of a text with placeholders, whose added tokens are the template's.

        Raises: InvalidRequest.
        """
        return self._tokens.encode(self.show(self._tokens.named(text)))

"""Keeps the texts of people apart from control tokens: only the chat template can make a control token.

    messages, tools  --each spelling of a control token hidden-->  the chat template  -->  text
                     -->  the template's tokens named, the spellings shown again  -->  ids

A conversation that spells no added token of the model goes through the tokenizer as it is. In any other
conversation, each spelling is hidden behind a placeholder of letters and digits while the template is
rendered. The template neither trims nor escapes a placeholder, and finds no control token in the content.
The one exception is `</think>` in a model's own turn, which is not hidden: the templates of DeepSeek and Qwen
look for it, to take the reasoning out of earlier turns.
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training.added_tokens import AddedTokens

Render = Callable[[Any, dict[str, Any]], Any]
OF_THE_SERVER = ("chat_template",)
"""The options of a template that no user can write."""
FIELDS = frozenset(
    {
        *("role", "content", "type", "text", "refusal", "name", "reasoning", "reasoning_content", "thinking"),
        *("tool_calls", "tool_call_id", "id", "function", "arguments", "description", "parameters"),
        *("properties", "required", "items", "enum", "title"),
    }
)
"""The names by which templates find the parts of messages and tools. They stay if a token is `<text>`."""
KINDS = ("role", "type")
"""The fields whose values tell a template which kind of message or part it has."""


def apply_template(tokenizer: Any, conversation: Sequence[Any], **options: Any) -> list[int]:
    """The token ids, as from a tokenizer's `apply_chat_template`. Raises: TemplateError, InvalidRequest."""

    def render(messages: Any, given: dict[str, Any]) -> Any:
        return tokenizer.apply_chat_template(messages, **{"tokenize": True, "return_dict": False, **given})

    return list(rendered(tokenizer, conversation, options, render))


def rendered(tokenizer: Any, conversation: Sequence[Any], options: dict[str, Any], render: Render) -> Any:
    """The result of `render` for a conversation and a template's options.

    If the conversation or an option spells a token, the result is a list of ids.

    Raises: TemplateError, InvalidRequest.
    """
    hidden = HiddenSpellings(AddedTokens.of(tokenizer))
    messages = hidden.hide(conversation)
    given = {name: hidden.hide_option(name, value) for name, value in options.items()}
    if not hidden:
        return render(conversation, options)
    try:
        text = render(messages, {**given, "tokenize": False})
    except Exception as error:  # its message may quote the content
        error.args = tuple(hidden.show(arg) if isinstance(arg, str) else arg for arg in error.args)
        raise
    return hidden.encode(text)


def is_spelled_in(tokenizer: Any, value: Any) -> bool:
    """Return True if a text in `value`, which may be any JSON value, spells an added token."""
    hidden = HiddenSpellings(AddedTokens.of(tokenizer))
    hidden.hide(value)
    return bool(hidden)


def encode(tokenizer: Any, answer: str) -> list[int]:
    """The ids of a model's answer, without a template."""
    tokens = AddedTokens.of(tokenizer)
    if not tokens.spellings(models_own=True).are_in(answer):
        return list(tokenizer.encode(answer, add_special_tokens=False))
    hidden = HiddenSpellings(tokens)
    return hidden.encode(hidden.hide(answer, models_own=True))


class HiddenSpellings:
    """The texts of one conversation that spell added tokens, and the placeholders that stand for them.

    The object is true if there is such a text. No text of the conversation can hold a placeholder, because
    nobody can guess its random number.
    """

    def __init__(self, tokens: AddedTokens) -> None:
        self._tokens = tokens
        self._number = f"{secrets.randbelow(10**16):016}"
        self._texts: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._texts)

    def hide(self, value: Any, models_own: bool = False) -> Any:
        """A copy of `value`, which may be any JSON value, with placeholders in all its texts.

        `models_own`: the model wrote the value itself.
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
        """Hide a word that means something to the template only if it spells a token as a whole."""
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
        """The text, with the hidden texts in place of their placeholders."""
        return re.sub(rf"zq{self._number}z(\d+)z", lambda match: self._texts[int(match[1])], text)

    def encode(self, text: str) -> list[int]:
        """The ids of a text with placeholders. Only the template's added tokens become control tokens.

        Raises: InvalidRequest.
        """
        return self._tokens.encode(self.show(self._tokens.named(text)))

"""The added tokens of a tokenizer, and a copy of the tokenizer in which no text of a user can spell one.

    text  --`named`: each added token gets a secret name-->  text  --the copy, which knows the names-->  ids

A tokenizer turns the text of an added token into that token wherever the text stands: in what the chat
template writes, and also in what people write. In the copy the added tokens have secret texts instead, also
in the vocabulary of the tokenizer's model. The copy encodes everything else as the tokenizer does, and all
ids stay the same.

Two kinds of added tokens are left as they are. Added tokens of white space are no control tokens; they are a
part of how text is encoded. `<think>` and `</think>` are left alone if the model's answers show them as
tokens: the model writes them itself, so in its own turns they stay the tokens that it sampled (see
`models_own`).
"""

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

from registry.errors import InvalidRequest

REASONING = ("<think>", "</think>")
WHITE_SPACE = " \t\r\n\N{LOWER ONE EIGHTH BLOCK}"
"""White space, and the mark that stands for a space in some vocabularies."""
NUM_BRACKET_CHARACTERS = 2


class AddedToken(Protocol):
    """An added token: the attributes of the class `AddedToken` of `tokenizers` that are used here."""

    content: str
    special: bool
    single_word: bool
    normalized: bool


class AddedTokens:
    """The added tokens of one tokenizer that are control tokens, and the copy of that tokenizer."""

    _known: ClassVar["WeakKeyDictionary[Any, AddedTokens]"] = WeakKeyDictionary()

    @classmethod
    def of(cls, tokenizer: Any) -> "AddedTokens":
        if (known := cls._known.get(tokenizer)) is None:
            known = cls._known[tokenizer] = cls(tokenizer)
        return known

    def __init__(self, tokenizer: Any) -> None:
        # Mistral's own tokenizers have no added tokens: there no text spells a control token.
        added: Mapping[int, AddedToken] = getattr(tokenizer, "added_tokens_decoder", {})
        self._tokens = {token.content: token for token in added.values() if _is_control(token)}
        self._ids = {token.content: number for number, token in added.items() if _is_control(token)}
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._all = Spellings(self._tokens.values(), self._normaliser)
        models_own = {text for text in REASONING if text in self._tokens and not self._tokens[text].special}
        others = [token for text, token in self._tokens.items() if text not in models_own]
        self._foreign = Spellings(others, self._normaliser) if models_own else self._all

    @property
    def _normaliser(self) -> Any:
        return getattr(self._backend, "normalizer", None)

    def spellings(self, models_own: bool) -> "Spellings":
        """The spellings of the tokens; `models_own` asks for those in a text that the model wrote itself."""
        return self._foreign if models_own else self._all

    def named(self, text: str) -> str:
        """The text, with a secret name in place of each added token."""

        def name(match: re.Match[str]) -> str:
            token = self._tokens[match[0]]
            is_inside = token.single_word and _is_inside_word(match)
            return match[0] if is_inside else self._names[match[0]]

        return self._all.pattern.sub(name, text) if self._tokens else text

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which `named` wrote the names. Everything else in it is encoded as text.

        Raises: InvalidRequest, if the tokenizer is of a kind that cannot be copied.
        """
        return list(self._copy.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _names(self) -> dict[str, str]:
        secret = secrets.token_hex(8)
        return {text: f"<{secret}-{number}>" for text, number in self._ids.items()}

    @cached_property
    def _copy(self) -> Any:
        from tokenizers import Tokenizer

        if self._backend is None:
            raise InvalidRequest("this model's tokenizer cannot encode the text of a control token")
        parts = json.loads(self._backend.to_str())
        parts["added_tokens"] = [self._renamed(token) for token in parts["added_tokens"]]
        _rename_in_model(parts["model"], self._names)
        parts |= {"truncation": None, "padding": None, "post_processor": None}
        copy = Tokenizer.from_str(json.dumps(parts))
        assert all(copy.token_to_id(self._names[text]) == number for text, number in self._ids.items())
        return copy

    def _renamed(self, token: dict[str, Any]) -> dict[str, Any]:
        if (name := self._names.get(token["content"])) is None:
            return token
        keeps_name = self._normaliser is None or self._normaliser.normalize_str(name) == name
        is_normalised = token["normalized"] and keeps_name
        return {**token, "content": name, "normalized": is_normalised, "single_word": False}


class Spellings:
    """The ways in which a text can spell some tokens.

    A text can spell a token as a whole, in other characters that the normaliser makes the same, or in pieces.
    """

    def __init__(self, tokens: Iterable[AddedToken], normaliser: Any) -> None:
        tokens = list(tokens)
        texts = [token.content for token in tokens]
        self.pattern = _any_of(texts)
        self._normaliser = normaliser
        normalised = [token.content for token in tokens if token.normalized] if normaliser else []
        self._normalised = _any_of(map(normaliser.normalize_str, normalised)) if normalised else None
        self._beginnings = {text[:length] for text in texts for length in range(1, len(text))}
        self._max_beginning = max(map(len, texts), default=1) - 1
        brackets = range(1, NUM_BRACKET_CHARACTERS + 1)
        self._inner = {text[i : len(text) - j] for text in texts for i in brackets for j in brackets} - {""}

    def are_in(self, text: str) -> bool:
        return self.pattern.search(text) is not None or self._is_normalised_in(text)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The places in a text that spell a token by themselves, or together with the text around them."""
        spans = [match.span() for match in self.pattern.finditer(text)]
        body = text.strip()
        start = text.find(body)
        whole = (start, start + len(body))
        if not body:
            return spans
        if body in self._inner or (not spans and self._is_normalised_in(text)):
            return [whole]
        for length in range(min(self._max_beginning, len(body)), 0, -1):
            first = whole[1] - length
            if body[-length:] in self._beginnings and (not spans or spans[-1][1] <= first):
                return [*spans, (first, whole[1])]
        return spans

    def _is_normalised_in(self, text: str) -> bool:
        if self._normalised is None:
            return False
        return self._normalised.search(self._normaliser.normalize_str(text)) is not None


def _is_control(token: AddedToken) -> bool:
    return bool(token.content) and (token.special or bool(token.content.strip(WHITE_SPACE)))


def _is_inside_word(match: re.Match[str]) -> bool:
    start, stop = match.span()
    around = match.string[max(start - 1, 0) : start], match.string[stop : stop + 1]
    return any(re.match(r"\w", character) for character in around)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds the leftmost text, and the longest of several that begin there, as tokenizers do.

    It looks at each character of a text only a few times, however many tokens there are.
    """
    given = sorted({text for text in texts if text})
    return re.compile(_tree(given) if given else r"(?!)")


def _tree(texts: list[str]) -> str:
    """The pattern that matches any of the texts, which are sorted."""
    common = _common_beginning(texts[0], texts[-1])
    rests = [text[len(common) :] for text in texts]
    by_first: dict[str, list[str]] = {}
    for rest in rests:
        if rest:
            by_first.setdefault(rest[0], []).append(rest)
    if not by_first:
        return re.escape(common)
    branches = "|".join(_tree(group) for group in by_first.values())
    return f"{re.escape(common)}(?:{branches}){'?' if '' in rests else ''}"


def _common_beginning(one: str, other: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return one[: min(len(one), len(other)) if length is None else length]


def _rename_in_model(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Rename the tokens in the vocabulary, whose merges and longest matches could make them of plain text."""
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(text, text): number for text, number in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(text, text), score] for text, score in model["vocab"]]
    if (unknown := model.get("unk_token")) is not None:
        model["unk_token"] = names.get(unknown, unknown)
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not _makes_any(merge, names)]


def _makes_any(merge: str | list[str], names: Mapping[str, str]) -> bool:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left in names or right in names or left + right in names

"""Tool calls with vLLM's own parser of the models that have `<tool_call>`, and with that of Llama."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from serve_app.model_server.call_parser import with_whole_calls

PAINT = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}}}
SEND = {"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "paint"}}
FIRST = '<tool_call>\n{"name": "paint", "arguments": {"colour":"a } \\" {", "n":  [1, {}]}}\n</tool_call>'
SECOND = '<tool_call>\n{"name": "send", "arguments": {}}\n</tool_call>'
ARGUMENTS = '{"colour":"a } \\" {", "n":  [1, {}]}'


@pytest.fixture(scope="module")
def tokenizer(smollm2_weights: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2_weights)


class Answers:
    """A reader of the text of an answer, whole or in pieces, that does as vLLM's serving layer does."""

    def __init__(self, tool_parser: str, tokenizer: Any) -> None:
        from vllm.parser import ParserManager

        self._class = with_whole_calls(
            ParserManager.get_parser(
                tool_parser_name=tool_parser, reasoning_parser_name="", enable_auto_tools=True
            )
        )
        self._tokenizer = tokenizer

    def _request(self, tool_choice: Any, tools: Sequence[Any]) -> Any:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        messages = [{"role": "user", "content": "x"}]
        given = {"model": "m", "messages": messages, "tools": tools, "tool_choice": tool_choice}
        return ChatCompletionRequest(**given)

    def whole(
        self, text: str, tool_choice: Any = "auto", tools: Sequence[Any] = (PAINT, SEND)
    ) -> tuple[str, list[tuple[str, str]]]:
        request = self._request(tool_choice, tools)
        parser = self._class(self._tokenizer, request.tools)
        _, content, calls = parser.parse(text, request, enable_auto_tools=True)
        return content or "", [(call.name, call.arguments) for call in calls or ()]

    def streamed(
        self, pieces: Sequence[str], tool_choice: Any = "auto", tools: Sequence[Any] = (PAINT, SEND)
    ) -> tuple[str, list[tuple[str, str]]]:
        """The content and the calls of a stream, as a client puts them together that only adds up strings."""
        request = self._request(tool_choice, tools)
        parser = self._class(self._tokenizer, request.tools)
        content, names, arguments = "", list[str](), list[str]()
        for index, piece in enumerate(pieces):
            message = parser.parse_delta(piece, [0], request, [1], finished=index == len(pieces) - 1)
            if message is None:
                continue
            delta = json.loads(message.model_dump_json(exclude_unset=True))
            content += delta.get("content", "")
            for call in delta.get("tool_calls", ()):
                if call["index"] == len(names):
                    assert call["id"] and call["type"] == "function"
                    names.append(call["function"]["name"])
                    arguments.append("")
                else:
                    assert call.keys() == {"index", "function"}
                arguments[call["index"]] += call["function"]["arguments"]
        return content, list(zip(names, arguments, strict=True))


def in_pieces(text: str, seed: int) -> list[str]:
    """The text in pieces. Any cut is possible, and none at all."""
    chooser = random.Random(seed)
    cuts = sorted(chooser.sample(range(len(text) + 1), chooser.randint(0, min(len(text), 60))))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.fixture(scope="module")
def hermes(tokenizer: Any) -> Answers:
    return Answers("hermes", tokenizer)


def test_whole_calls_are_given_as_the_model_wrote_them(hermes: Answers) -> None:
    for tool_choice in ("auto", "required"):
        expected = "", [("paint", ARGUMENTS), ("send", "{}")]
        assert hermes.whole(FIRST + SECOND, tool_choice) == expected
        assert hermes.streamed([FIRST, SECOND], tool_choice) == expected
    assert hermes.whole(FIRST, NAMED) == ("", [("paint", ARGUMENTS)])
    assert hermes.whole(f"Look: {FIRST}") == ("Look: ", [("paint", ARGUMENTS)])
    assert hermes.whole("Hello {") == ("Hello {", [])
    assert hermes.whole(FIRST, "none") == (FIRST, [])


@pytest.mark.parametrize("tool_choice", ["auto", "required", NAMED])
def test_cut_call_has_its_name_and_the_arguments_so_far(hermes: Answers, tool_choice: Any) -> None:
    cut = FIRST[: FIRST.index('" {')]
    assert hermes.whole(cut, tool_choice) == ("", [("paint", '{"colour":"a } \\')])
    both = FIRST + SECOND[: SECOND.index("{}") + 1]
    assert hermes.whole(both, tool_choice) == ("", [("paint", ARGUMENTS), ("send", "{")])
    named = FIRST[: FIRST.index(", ")]
    assert hermes.whole(named, tool_choice) == ("", [("paint", "")])
    assert hermes.streamed([named], tool_choice) == ("", [("paint", "")])


def test_forced_call_that_is_cut_before_its_name_has_the_only_one_possible(hermes: Answers) -> None:
    for text in ("", "<tool", "<tool_call>", '<tool_call>\n{"name": "pa'):
        for choice, tools in ((NAMED, (PAINT, SEND)), ("required", (PAINT,))):
            assert hermes.whole(text, choice, tools) == ("", [("paint", "")]), text
            assert hermes.streamed([text], choice, tools) == ("", [("paint", "")]), text
        assert hermes.whole(text, "required") == hermes.streamed([text], "required") == ("", [])


@pytest.mark.parametrize("tool_choice", ["auto", "required", NAMED])
def test_pieces_are_the_whole_wherever_the_answer_is_cut(hermes: Answers, tool_choice: Any) -> None:
    text = (f"I <do> it: {FIRST}" if tool_choice == "auto" else FIRST) + SECOND
    for end in range(len(text) + 1):
        whole = hermes.whole(text[:end], tool_choice)
        assert hermes.streamed(in_pieces(text[:end], end), tool_choice) == whole, text[:end]


def test_text_that_only_begins_like_a_call_is_kept(hermes: Answers) -> None:
    for text in ("a <", "a <tool_", "1 < 2"):
        assert hermes.streamed(list(text)) == hermes.whole(text) == (text, [])


def test_cut_call_of_llama_is_given_too(tokenizer: Any) -> None:
    class WithTag:
        """A tokenizer that has Llama's token."""

        def get_vocab(self) -> dict[str, int]:
            return {"<|python_tag|>": 1}

    llama = Answers("llama3_json", WithTag())
    whole = '{"name": "paint", "parameters": {"colour": "red"}}'
    assert llama.whole(whole) == ("", [("paint", '{"colour": "red"}')])
    assert llama.whole(whole[:-4]) == ("", [("paint", '{"colour": "re')])
    expected = [("paint", '{"colour": "red"}'), ("send", '{"t')]
    assert llama.whole(f'{whole}; {{"name": "send", "parameters": {{"t') == ("", expected)
    assert llama.whole('{"a": "', NAMED) == ("", [("paint", "")])
    assert llama.whole("In C a block { begins") == ("In C a block { begins", [])
    assert llama.streamed(list(whole)) == ("", [("paint", '{"colour": "red"}')])
    ((name, arguments),) = llama.streamed(list(whole[:-4]), NAMED)[1]
    assert name == "paint" and '{"colour": "re'.startswith(arguments)

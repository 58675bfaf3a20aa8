"""Tool calls in an answer as OpenAI's clients expect them, also where it was cut in the middle of one.

    text of an answer  ->  vLLM's parser of the model  ->  WholeCalls  ->  content and calls
    pieces of it       ->  the same                                    ->  deltas

A call is cut by `max_tokens` or by a stop text. vLLM's parsers then take it for text, or say nothing at all.
Here such a call has its name, and its arguments so far. The first piece of a streamed call has a name, an id
and arguments, which may be ""; the pieces of the arguments add up to what a whole answer would have.
"""

import re
from collections.abc import Callable
from typing import Any

NAME = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]+)"')
ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:\s*')

Extract = Callable[[str | None, Any, bool], tuple[Any, str | None]]


def with_whole_calls(parser_class: Any) -> Any:
    """vLLM's parser class of a model, or a subclass of it that gives calls as described above.

    A parser that is built on vLLM's parser engine, and one without tools, is left as it is.
    """
    from vllm.parser.abstract_parser import DelegatingParser

    if parser_class is None or not issubclass(parser_class, DelegatingParser):
        return parser_class
    tool_parser = parser_class.tool_parser_cls
    if tool_parser is None or tool_parser.engine_based_streaming:
        return parser_class
    return type("WholeCallsParser", (WholeCalls, parser_class), {})


class WholeCalls:
    """In front of a DelegatingParser, whose methods these are. One object parses one answer."""

    tool_parser_cls: Any
    model_tokenizer: Any
    _tool_parser: Any
    _stream_state: Any

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._begun: set[int] = set()
        """Calls of which a piece was sent."""

    def _extract_tool_calls(
        self, content: str | None, request: Any, enable_auto_tools: bool = False
    ) -> tuple[Any, str | None]:
        """Calls and text of a whole answer, without its reasoning."""
        extract: Extract = super()._extract_tool_calls  # type: ignore[misc]
        if content is None or not _wants_calls(request):
            return extract(content, request, enable_auto_tools)
        if self._rereads():
            calls, text = self._reread(content, request)
        else:
            calls, text = _extracted_with_open(extract, content, request, enable_auto_tools)
        if calls:
            return calls, text
        if not _is_forced(request):
            return None, content
        name = _only_name(request)
        return [] if name is None else [_call(name, "")], None

    def parse_delta(
        self,
        delta_text: str,
        delta_token_ids: list[int],
        request: Any,
        prompt_token_ids: list[int] | None = None,
        *,
        finished: bool,
    ) -> Any:
        """The next piece of a streamed answer, None if there is nothing to send."""
        message = super().parse_delta(  # type: ignore[misc]
            delta_text, delta_token_ids, request, prompt_token_ids, finished=finished
        )
        if not _wants_calls(request):
            return message
        return self._sendable(message, request, finished)

    def _append_unstreamed_tool_args(self, message: Any) -> None:
        """A parser holds pieces back, and completes what was cut: that would look like a whole call."""
        text = self._stream_state.previous_text
        if not self._rereads() and _open_object(text) is None:
            super()._append_unstreamed_tool_args(message)  # type: ignore[misc]

    def _rereads(self) -> bool:
        """Whether the tool parser reads all text anew with every piece: then one piece can be all of it."""
        from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser

        return isinstance(self._tool_parser, Hermes2ProToolParser)

    def _reread(self, text: str, request: Any) -> tuple[list[Any] | None, str | None]:
        """What a stream of this text gives, in one piece."""
        parser = self.tool_parser_cls(self.model_tokenizer, request.tools)
        message = parser.extract_tool_calls_streaming("", text, text, (), (), (), request)
        pieces = [] if message is None else _merged(message.tool_calls)
        content = None if message is None or not (message.content or "").strip() else message.content
        return [_call(piece.name, piece.arguments, piece.id) for piece in pieces] or None, content

    def _sendable(self, message: Any, request: Any, finished: bool) -> Any:
        from vllm.entrypoints.generate.base.protocol import DeltaMessage

        pieces = [] if message is None else _merged(message.tool_calls or ())
        content = None if message is None else message.content
        if finished and not pieces and not self._begun and self._stream_state.reasoning_ended:
            if (name := _only_name(request)) is not None:
                pieces = [_Piece(0, name=name)]
            elif not _is_forced(request):
                content = (content or "") + self._held_back()
        deltas = [delta for piece in pieces if (delta := self._delta(piece)) is not None]
        given: dict[str, Any] = {"tool_calls": deltas} if deltas else {}
        if content:
            given["content"] = content
        if message is not None and message.reasoning:
            given["reasoning"] = message.reasoning
        return DeltaMessage(**given) if given else None

    def _held_back(self) -> str:
        """The end of a text that could have been the beginning of a call, and was not."""
        if not self._rereads():
            return ""
        text: str = self._stream_state.previous_text
        sent: int = self._tool_parser._sent_content_idx
        self._tool_parser._sent_content_idx = len(text)
        return text[sent:]

    def _delta(self, piece: "_Piece") -> Any:
        from vllm.entrypoints.generate.base.protocol import DeltaFunctionCall, DeltaToolCall
        from vllm.renderers.chat_utils import make_tool_call_id

        if piece.index in self._begun:
            if not piece.arguments:
                return None
            return DeltaToolCall(index=piece.index, function=DeltaFunctionCall(arguments=piece.arguments))
        self._begun.add(piece.index)
        return DeltaToolCall(
            index=piece.index,
            id=piece.id or make_tool_call_id(),
            type="function",
            function=DeltaFunctionCall(name=piece.name, arguments=piece.arguments),
        )


class _Piece:
    """All that one message of vLLM's parser has of one call."""

    def __init__(self, index: int, name: str | None = None) -> None:
        self.index = index
        self.id: str | None = None
        self.name = name
        self.arguments = ""


def _merged(deltas: Any) -> list[_Piece]:
    pieces: dict[int, _Piece] = {}
    for delta in deltas:
        piece = pieces.setdefault(delta.index, _Piece(delta.index))
        piece.id = delta.id or piece.id
        if delta.function is not None:
            piece.name = delta.function.name or piece.name
            piece.arguments += delta.function.arguments or ""
    return list(pieces.values())


def _call(name: str | None, arguments: str, call_id: str | None = None) -> Any:
    from vllm.entrypoints.generate.base.protocol import FunctionCall

    return FunctionCall(id=call_id, name=name, arguments=arguments)


def _wants_calls(request: Any) -> bool:
    return bool(request.tools) and request.tool_choice != "none"


def _is_forced(request: Any) -> bool:
    return request.tool_choice not in (None, "none", "auto")


def _only_name(request: Any) -> str | None:
    """The function that a forced call can only be of, if that is one."""
    if not _is_forced(request):
        return None
    if request.tool_choice != "required":
        return str(request.tool_choice.function.name)
    return str(request.tools[0].function.name) if len(request.tools) == 1 else None


def _open_call(text: str, request: Any) -> int | None:
    """Where a call of a given tool begins that the text does not end; None: there is none."""
    start = _open_object(text)
    name = None if start is None else NAME.match(text, start)
    return start if name and name[1] in {tool.function.name for tool in request.tools} else None


def _extracted_with_open(
    extract: Extract, content: str, request: Any, enable_auto_tools: bool
) -> tuple[Any, str | None]:
    """What vLLM's parser finds before a call that was cut, and this call."""
    start = _open_call(content, request)
    if start is None:
        return extract(content, request, enable_auto_tools)
    calls, _ = extract(content[:start].rstrip("; \n"), request, enable_auto_tools)
    return [*(calls or ()), _call(*_so_far(content[start:]))], None


def _so_far(call: str) -> tuple[str, str]:
    """Name and arguments of the beginning of `{"name": ..., "parameters": ...`."""
    name, arguments = NAME.match(call), ARGUMENTS.search(call)
    assert name is not None
    return name[1], call[arguments.end() :] if arguments else ""


def _open_object(text: str) -> int | None:
    """Where the last JSON object of a text begins, if it does not end."""
    depth, start, is_string, is_escaped = 0, 0, False, False
    for index, character in enumerate(text):
        if depth and is_string:
            is_string = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == "{":
            start, depth = (start, depth + 1) if depth else (index, 1)
        elif depth:
            is_string = character == '"'
            depth -= character == "}"
    return start if depth else None

"""Makes tool calls of an answer in the form that OpenAI's clients expect, even if a call was cut.

    text of an answer  ->  vLLM's parser of the model  ->  WholeCalls  ->  content and calls
    pieces of it       ->  the same                                    ->  deltas

`max_tokens` or a stop text can cut a call. vLLM's parsers then treat it as text or drop it. Here such a call
has its name and its arguments so far. The first piece of a streamed call has a name, an id and arguments,
which may be "". The pieces of the arguments together are the arguments of a whole answer.
"""

import re
from collections.abc import Callable
from typing import Any

NAME = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]+)"')
ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:\s*')

Extract = Callable[[str | None, Any, bool], tuple[Any, str | None]]


def with_whole_calls(parser_class: Any) -> Any:
    """Returns a subclass of vLLM's parser class of a model that makes calls as described above.

    A parser that is built on vLLM's parser engine, or that has no tools, is returned unchanged.
    """
    from serve_app.model_server.vllm_openai_private import DelegatingParser

    if parser_class is None or not issubclass(parser_class, DelegatingParser):
        return parser_class
    tool_parser = parser_class.tool_parser_cls
    if tool_parser is None or tool_parser.engine_based_streaming:
        return parser_class
    return type("WholeCallsParser", (WholeCalls, parser_class), {})


class WholeCalls:
    """A mixin that overrides methods of DelegatingParser. One object parses one answer."""

    tool_parser_cls: Any
    model_tokenizer: Any
    _tool_parser: Any
    _stream_state: Any

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._begun: set[int] = set()
        """The indices of calls of which a piece was sent."""

    def _extract_tool_calls(
        self, content: str | None, request: Any, enable_auto_tools: bool = False
    ) -> tuple[Any, str | None]:
        """Returns the calls and the text of a whole answer, whose reasoning was removed before."""
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
        """Returns the next piece of a streamed answer; None: there is nothing to send."""
        message = super().parse_delta(  # type: ignore[misc]
            delta_text, delta_token_ids, request, prompt_token_ids, finished=finished
        )
        if not _wants_calls(request):
            return message
        return self._sendable(message, request, finished)

    def _append_unstreamed_tool_args(self, message: Any) -> None:
        """Lets the parser send the rest of a call, unless the call was cut.

        The parser would complete a cut call, which would then look like a whole one.
        """
        text = self._stream_state.previous_text
        if not self._rereads() and _open_object(text) is None:
            super()._append_unstreamed_tool_args(message)  # type: ignore[misc]

    def _rereads(self) -> bool:
        """Returns True if the tool parser reads the whole text again with each piece.

        Such a parser can also read a whole answer as one piece.
        """
        from serve_app.model_server.vllm_openai_private import Hermes2ProToolParser

        return isinstance(self._tool_parser, Hermes2ProToolParser)

    def _reread(self, text: str, request: Any) -> tuple[list[Any] | None, str | None]:
        """Returns the calls and the text that a stream of this text gives, read in one piece."""
        parser = self.tool_parser_cls(self.model_tokenizer, request.tools)
        message = parser.extract_tool_calls_streaming("", text, text, (), (), (), request)
        pieces = [] if message is None else _merged(message.tool_calls)
        content = None if message is None or not (message.content or "").strip() else message.content
        return [_call(piece.name, piece.arguments, piece.id) for piece in pieces] or None, content

    def _sendable(self, message: Any, request: Any, finished: bool) -> Any:
        from serve_app.model_server.vllm_openai_private import DeltaMessage

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
        """Returns the end of a text that the parser held back because it could have begun a call."""
        from serve_app.model_server.vllm_openai_private import set_sent

        if not self._rereads():
            return ""
        text: str = self._stream_state.previous_text
        return text[set_sent(self._tool_parser, len(text)) :]

    def _delta(self, piece: "_Piece") -> Any:
        from serve_app.model_server.vllm_openai_private import (
            DeltaFunctionCall,
            DeltaToolCall,
            make_tool_call_id,
        )

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
    """The parts of one call in one message of vLLM's parser, merged."""

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
    from serve_app.model_server.vllm_openai_private import FunctionCall

    return FunctionCall(id=call_id, name=name, arguments=arguments)


def _wants_calls(request: Any) -> bool:
    return bool(request.tools) and request.tool_choice != "none"


def _is_forced(request: Any) -> bool:
    return request.tool_choice not in (None, "none", "auto")


def _only_name(request: Any) -> str | None:
    """Returns the name of the function if a call is forced and only one function is possible."""
    if not _is_forced(request):
        return None
    if request.tool_choice != "required":
        return str(request.tool_choice.function.name)
    return str(request.tools[0].function.name) if len(request.tools) == 1 else None


def _open_call(text: str, request: Any) -> int | None:
    """Returns the start of a cut call of one of the request's tools; None: there is no such call."""
    start = _open_object(text)
    name = None if start is None else NAME.match(text, start)
    return start if name and name[1] in {tool.function.name for tool in request.tools} else None


def _extracted_with_open(
    extract: Extract, content: str, request: Any, enable_auto_tools: bool
) -> tuple[Any, str | None]:
    """Returns the calls that vLLM's parser finds, and after them the call that was cut, if there is one."""
    start = _open_call(content, request)
    if start is None:
        return extract(content, request, enable_auto_tools)
    calls, _ = extract(content[:start].rstrip("; \n"), request, enable_auto_tools)
    return [*(calls or ()), _call(*_so_far(content[start:]))], None


def _so_far(call: str) -> tuple[str, str]:
    """Returns the name and the arguments so far of a cut `{"name": ..., "parameters": ...`."""
    name, arguments = NAME.match(call), ARGUMENTS.search(call)
    assert name is not None
    return name[1], call[arguments.end() :] if arguments else ""


def _open_object(text: str) -> int | None:
    """Returns the start of the last JSON object of a text, if the object does not end."""
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

"""Translates the answer of chat into a response of the Responses API: its items, or the events of a stream.

    chunk of chat  ->  Answering.feed  ->  events     created, in_progress, and per item: added, deltas, done
    end of chat    ->  Answering.end   ->  events     completed or incomplete, with the whole response
    error          ->  Answering.fail  ->  an event   failed

A whole answer is treated as one chunk. One item is open at a time. The next item, or the end, closes it.
"""

from typing import Any

from registry.errors import INTERNAL_ERROR, InvalidRequest, RateLimited, TigerError
from serve_app.api.responses.items import CallItem, TextItem, in_event, new_id
from serve_app.wire.responses import ResponsesRequest

Event = dict[str, Any]


class Answering:
    """A response that is being made. `temperature` and `top_p` are the values that the model uses."""

    def __init__(self, request: ResponsesRequest, temperature: float, top_p: float) -> None:
        self._head = _as_given(request, temperature, top_p)
        self._items: list[TextItem | CallItem] = []
        self._calls: dict[int, CallItem] = {}
        self._num_events = 0
        self._usage: dict[str, Any] | None = None
        self._finish_reason: str | None = None
        self._log_probs: list[dict[str, Any]] = []
        """The log-probabilities of tokens whose text has not arrived yet."""
        self.has_begun = False

    def feed(self, chunk: dict[str, Any]) -> list[Event]:
        """Returns the events for one chunk of chat's stream."""
        events: list[Event] = [] if self.has_begun else self._begin(chunk)
        if chunk.get("usage"):
            self._usage = _usage(chunk["usage"])
        for choice in chunk["choices"]:
            delta = choice["delta"]
            self._log_probs += (choice.get("logprobs") or {}).get("content") or ()
            if delta.get("reasoning"):
                events += self._text("reasoning", delta["reasoning"])
            if delta.get("content"):
                events += self._text("message", delta["content"])
            for piece in delta.get("tool_calls") or ():
                events += self._call(piece)
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
        return events

    def end(self) -> list[Event]:
        """Returns the last events. An empty answer gets an empty message. Raises: TigerError."""
        if self._finish_reason is None:
            raise TigerError(INTERNAL_ERROR)
        events = [] if self._items else self._open(TextItem("message", 0))
        events += self._close()
        status = "incomplete" if self._is_cut else "completed"
        return [*events, self._event(f"response.{status}", response=self.response(status))]

    def fail(self, error: TigerError) -> Event:
        """Returns the last event of a response that failed."""
        for item in self._items[-1:]:
            item.status = "incomplete" if item.status == "in_progress" else item.status
        return self._event("response.failed", response=self.response("failed", error))

    def response(self, status: str | None = None, error: TigerError | None = None) -> dict[str, Any]:
        """Returns the response so far. Without `status`, it has the status of a response that has ended."""
        if status is None:
            status = "incomplete" if self._is_cut else "completed"
        is_cut = status == "incomplete"
        return {
            **self._head,
            "status": status,
            "error": None if error is None else {"code": _code(error), "message": error.message},
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [item.as_dict() for item in self._items],
            "usage": self._usage,
        }

    @property
    def _is_cut(self) -> bool:
        return self._finish_reason == "length"

    def _begin(self, chunk: dict[str, Any]) -> list[Event]:
        self.has_begun = True
        self._head |= {"created_at": chunk["created"], "model": chunk["model"]}
        names = ("response.created", "response.in_progress")
        return [self._event(name, response=self.response("in_progress")) for name in names]

    def _event(self, kind: str, **fields: Any) -> Event:
        self._num_events += 1
        return {"type": kind, "sequence_number": self._num_events - 1, **fields}

    def _of_item(self, kind: str, item: TextItem | CallItem, **fields: Any) -> Event:
        return self._event(kind, item_id=item.id, output_index=item.index, **fields)

    def _of_part(self, kind: str, item: TextItem, **fields: Any) -> Event:
        return self._of_item(kind, item, content_index=0, **fields)

    def _text(self, kind: str, text: str) -> list[Event]:
        events: list[Event] = []
        item = self._items[-1] if self._items else None
        if not isinstance(item, TextItem) or item.kind != kind:
            item = TextItem(kind, len(self._items))
            events += self._open(item)
        item.pieces.append(text)
        log_probs = self._taken_log_probs(item)
        more = {"logprobs": [in_event(each) for each in log_probs]} if kind == "message" else {}
        return [*events, self._of_part(f"response.{item.text_type}.delta", item, delta=text, **more)]

    def _taken_log_probs(self, item: TextItem) -> list[dict[str, Any]]:
        """Returns the waiting log-probabilities and adds them to a message.

        A reasoning item has no log-probabilities, so those of its tokens are dropped.
        """
        taken, self._log_probs = self._log_probs, []
        if item.kind == "message":
            item.log_probs += taken
        return taken

    def _call(self, piece: dict[str, Any]) -> list[Event]:
        function = piece.get("function") or {}
        events: list[Event] = []
        if piece["index"] not in self._calls:
            item = CallItem(len(self._items), piece["id"], function["name"])
            self._calls[piece["index"]] = item
            events += self._open(item)
        item = self._calls[piece["index"]]
        if arguments := function.get("arguments"):
            item.pieces.append(arguments)
            events.append(self._of_item("response.function_call_arguments.delta", item, delta=arguments))
        return events

    def _open(self, item: TextItem | CallItem) -> list[Event]:
        events = self._close()
        self._items.append(item)
        added = self._event("response.output_item.added", output_index=item.index, item=item.as_dict())
        events.append(added)
        if isinstance(item, TextItem):
            events.append(self._of_part("response.content_part.added", item, part=item.part()))
        return events

    def _close(self) -> list[Event]:
        """Returns the last events of the open item, if there is one."""
        if not self._items or self._items[-1].status != "in_progress":
            return []
        item = self._items[-1]
        events: list[Event] = []
        if isinstance(item, TextItem):
            if item.kind == "message":
                self._taken_log_probs(item)
            more = {"logprobs": [in_event(each) for each in item.log_probs]} if item.kind == "message" else {}
            events.append(self._of_part(f"response.{item.text_type}.done", item, text=item.text, **more))
            events.append(self._of_part("response.content_part.done", item, part=item.part()))
        else:
            events.append(
                self._of_item(
                    "response.function_call_arguments.done", item, name=item.name, arguments=item.text
                )
            )
        item.status = "incomplete" if self._is_cut else "completed"
        done = self._event("response.output_item.done", output_index=item.index, item=item.as_dict())
        return [*events, done]


def whole_response(answering: Answering, completion: dict[str, Any]) -> dict[str, Any]:
    """Returns the response for a whole chat completion."""
    choices = []
    for choice in completion["choices"]:
        message = choice["message"]
        calls = [{**call, "index": index} for index, call in enumerate(message.get("tool_calls") or ())]
        choices.append({**choice, "delta": {**message, "tool_calls": calls}})
    answering.feed({**completion, "choices": choices})
    answering.end()
    return answering.response()


def _as_given(request: ResponsesRequest, temperature: float, top_p: float) -> dict[str, Any]:
    """Returns the fields of a response that are known before there is an answer."""
    given = request.model_dump(
        include={"tools", "tool_choice", "text", "reasoning", "metadata"}, by_alias=True, exclude_none=True
    )
    text = given.get("text", {})
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": 0,
        "model": "",
        "instructions": request.instructions,
        "tools": [_tool_as_given(tool) for tool in given.get("tools", ())],
        "tool_choice": given.get("tool_choice", "auto"),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "text": {**text, "format": text.get("format", {"type": "text"})},
        "temperature": temperature,
        "top_p": top_p,
        "max_output_tokens": request.max_output_tokens,
        "top_logprobs": request.top_logprobs or 0,
        "reasoning": {"effort": given.get("reasoning", {}).get("effort"), "summary": None},
        "metadata": given.get("metadata", {}),
        "truncation": "disabled",
        "store": False,
        "background": False,
        "previous_response_id": None,
    }


def _tool_as_given(tool: dict[str, Any]) -> dict[str, Any]:
    return {"strict": None, "parameters": None, **tool}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": usage["total_tokens"],
    }


def _code(error: TigerError) -> str:
    if isinstance(error, RateLimited):
        return "rate_limit_exceeded"
    return "invalid_prompt" if isinstance(error, InvalidRequest) else "server_error"

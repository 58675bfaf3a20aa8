"""Chat answers become responses: OpenAI's own types accept every event and every response."""

import json
import random
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from registry.errors import InvalidRequest, ModelNotFound, RateLimited, TigerError
from serve_app.api.responses.input import chat_form
from serve_app.api.responses.output import Answering, whole_response
from serve_app.api.responses.stream import response_events
from serve_app.api.streams import DONE, is_last_piece
from serve_app.wire.responses import ResponsesRequest

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 5,
    "total_tokens": 35,
    "prompt_tokens_details": {"cached_tokens": 16},
}
TOOL = {"type": "function", "name": "paint", "parameters": {"type": "object"}}
LOG_PROB = {
    "token": "Hi",
    "bytes": [72, 105],
    "logprob": -0.5,
    "top_logprobs": [{"token": "Hi", "bytes": None, "logprob": -0.5}],
}


def answering(**more: Any) -> Answering:
    return Answering(ResponsesRequest(input="Hello", **more), 0.7, 0.95)


def chunk(finish_reason: str | None = None, log_probs: Any = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    if log_probs is not None:
        choice["logprobs"] = {"content": log_probs}
    return {"id": "chatcmpl-1", "created": 1738499698, "model": "model42@1", "choices": [choice]}


def piece(index: int, arguments: str = "", **first: str) -> dict[str, Any]:
    if not first:
        return {"index": index, "function": {"arguments": arguments}}
    function = {"name": first["name"], "arguments": arguments}
    return {"index": index, "id": first["id"], "type": "function", "function": function}


USAGE_CHUNK = {"created": 1738499698, "model": "model42@1", "choices": [], "usage": USAGE}


async def events_of(
    chunks: Sequence[Any], of: Answering | None = None, error: BaseException | None = None
) -> list[Any]:
    """The events that the client gets, in OpenAI's types. Each event is checked."""

    async def chat() -> AsyncGenerator[str, None]:
        for each in chunks:
            yield f"data: {json.dumps(each)}\n\n"
        if error is not None:
            raise error
        yield DONE

    form = chat_form(ResponsesRequest(input="Hello"))
    pieces = [found async for found in response_events(chat(), of or answering(), form)]
    assert all(pieces)
    assert [is_last_piece("text/event-stream", piece.encode()) for piece in pieces][-1:] == [True]
    assert not any(is_last_piece("text/event-stream", piece.encode()) for piece in pieces[:-1])
    found = []
    for event in "".join(pieces).removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        found.append(EVENT.validate_json(data.removeprefix("data: ")))
        assert name == f"event: {found[-1].type}"
    assert [event.sequence_number for event in found] == list(range(len(found)))
    return found


def kinds(events: Sequence[Any]) -> list[str]:
    return [event.type.removeprefix("response.") for event in events]


MESSAGE_BEGINS = ["output_item.added", "content_part.added"]
MESSAGE_ENDS = ["output_text.done", "content_part.done", "output_item.done"]


async def test_text_comes_about_in_openais_order() -> None:
    chunks = [
        chunk(role="assistant", content=""),
        chunk(content="Man"),
        chunk(content="go."),
        chunk("stop"),
        USAGE_CHUNK,
    ]
    events = await events_of(chunks)
    deltas = ["output_text.delta"] * 2
    assert kinds(events) == [
        "created", "in_progress", *MESSAGE_BEGINS, *deltas, *MESSAGE_ENDS, "completed",
    ]  # fmt: skip
    assert [event.delta for event in events if event.type.endswith(".delta")] == ["Man", "go."]
    done = events[-1].response
    assert (done.status, done.output_text, done.model) == ("completed", "Mango.", "model42@1")
    assert done.usage.input_tokens_details.cached_tokens == 16 and done.usage.total_tokens == 35
    assert done.id == events[0].response.id and events[0].response.status == "in_progress"
    (item,) = done.output
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {item.id}
    assert done.store is False and done.completed_at is None and done.previous_response_id is None


async def test_calls_are_items_of_their_own() -> None:
    chunks = [
        chunk(role="assistant", content=""),
        chunk(content="Look: "),
        chunk(tool_calls=[piece(0, id="call-1", name="paint")]),
        chunk(
            tool_calls=[piece(0, '{"colour": '), piece(0, '"red"}'), piece(1, "{", id="call-2", name="send")]
        ),
        chunk(tool_calls=[piece(1, "}")]),
        chunk("tool_calls"),
        USAGE_CHUNK,
    ]
    events = await events_of(chunks)
    message, paint, send = events[-1].response.output
    assert message.content[0].text == "Look: "
    assert [(call.call_id, call.name, call.arguments) for call in (paint, send)] == [
        ("call-1", "paint", '{"colour": "red"}'),
        ("call-2", "send", "{}"),
    ]
    call = ["output_item.added", *["function_call_arguments.delta"] * 2]
    call += ["function_call_arguments.done", "output_item.done"]
    text = [*MESSAGE_BEGINS, "output_text.delta", *MESSAGE_ENDS]
    assert kinds(events) == ["created", "in_progress", *text, *call, *call, "completed"]
    assert [event.output_index for event in events if event.type.endswith("item.added")] == [0, 1, 2]


async def test_reasoning_is_before_the_message() -> None:
    chunks = [
        chunk(reasoning="So"),
        chunk(reasoning="..."),
        chunk(content="Yes."),
        chunk("stop"),
        USAGE_CHUNK,
    ]
    events = await events_of(chunks)
    reasoning, message = events[-1].response.output
    assert reasoning.content[0].text == "So..." and message.content[0].text == "Yes."
    assert kinds(events)[2:9] == [
        *MESSAGE_BEGINS, *["reasoning_text.delta"] * 2, "reasoning_text.done", *MESSAGE_ENDS[1:],
    ]  # fmt: skip


async def test_cut_answer_is_incomplete() -> None:
    for cut in (chunk(content="Man"), chunk(tool_calls=[piece(0, '{"co', id="1", name="paint")])):
        events = await events_of([cut, chunk("length"), USAGE_CHUNK])
        assert kinds(events)[-1] == "incomplete"
        response = events[-1].response
        assert response.status == response.output[-1].status == "incomplete"
        assert response.incomplete_details.reason == "max_output_tokens"


async def test_answer_without_anything_is_an_empty_message() -> None:
    events = await events_of([chunk(role="assistant", content=""), chunk("stop"), USAGE_CHUNK])
    assert kinds(events) == ["created", "in_progress", *MESSAGE_BEGINS, *MESSAGE_ENDS, "completed"]
    assert events[-1].response.output_text == ""


async def test_log_probs_are_with_their_text() -> None:
    chunks = [
        chunk(content="Hi", log_probs=[LOG_PROB]),
        chunk(log_probs=[LOG_PROB]),
        chunk(content="!", log_probs=[LOG_PROB]),
        chunk("stop", log_probs=[LOG_PROB]),
        USAGE_CHUNK,
    ]
    events = await events_of(chunks, answering(top_logprobs=1))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert [len(event.logprobs) for event in deltas] == [1, 2]
    (content,) = events[-1].response.output[0].content
    assert len(content.logprobs) == 4 and content.logprobs[0].top_logprobs[0].token == "Hi"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TigerError("internal error"), "server_error"),
        (RuntimeError("secret of the replica"), "server_error"),
        (RateLimited("too much"), "rate_limit_exceeded"),
        (InvalidRequest("the engine could not complete an answer that follows the schema"), "invalid_prompt"),
    ],
)
async def test_what_fails_later_is_the_last_event(error: Exception, code: str) -> None:
    events = await events_of([chunk(content="Man")], error=error)
    assert kinds(events)[-1] == "failed"
    response = events[-1].response
    assert (response.status, response.error.code) == ("failed", code)
    assert "secret" not in response.error.message
    assert response.output[0].content[0].text == "Man"


async def test_stream_that_only_ends_has_failed() -> None:
    assert kinds(await events_of([chunk(content="Man")]))[-1] == "failed"


async def test_what_fails_before_the_first_event_is_raised() -> None:
    with pytest.raises(ModelNotFound):
        await events_of([], error=ModelNotFound("there is no such model", "model"))
    with pytest.raises(InvalidRequest) as refused:
        await events_of([], error=InvalidRequest("too long", "messages"))
    assert refused.value.param == "input"


def random_answer(chooser: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A chat completion, and a stream of the same answer."""

    def pieces(text: str) -> list[str]:
        cuts = sorted(chooser.sample(range(len(text) + 1), chooser.randint(0, min(len(text), 5))))
        return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True) if a < b]

    def text() -> str:
        return "".join(chooser.choices('aé \n"\\{', k=chooser.randint(0, 12)))

    message: dict[str, Any] = {"role": "assistant", "reasoning": text() or None, "content": text()}
    chunks = [chunk(role="assistant", content="")]
    chunks += [chunk(reasoning=each) for each in pieces(message["reasoning"] or "")]
    chunks += [chunk(content=each) for each in pieces(message["content"])]
    calls = []
    for index in range(chooser.randint(0, 2)):
        function = {"name": f"f{index}", "arguments": text()}
        calls.append({"id": f"call-{index}", "type": "function", "function": function})
        chunks.append(chunk(tool_calls=[piece(index, id=f"call-{index}", name=f"f{index}")]))
        chunks += [chunk(tool_calls=[piece(index, each)]) for each in pieces(function["arguments"])]
    reason = chooser.choice(["stop", "length", "tool_calls"])
    choice = {"index": 0, "message": {**message, "tool_calls": calls}, "finish_reason": reason}
    whole = {"created": 1738499698, "model": "model42@1", "choices": [choice], "usage": USAGE}
    return whole, [*chunks, chunk(reason), USAGE_CHUNK]


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_ids(each) for name, each in value.items() if name != "id"}
    return [without_ids(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(40))
async def test_stream_comes_to_what_a_whole_answer_is(seed: int) -> None:
    whole, chunks = random_answer(random.Random(seed))
    expected = whole_response(answering(), whole)
    Response.model_validate(expected)
    events = await events_of(chunks)
    final = events[-1].response
    assert without_ids(final.model_dump(exclude_unset=True)) == without_ids(
        Response.model_validate(expected).model_dump(exclude_unset=True)
    )
    added: dict[str, str] = {}
    for event in events:
        if event.type.endswith(".delta"):
            added[event.item_id] = added.get(event.item_id, "") + event.delta
        if event.type.endswith(("_text.done", "arguments.done")):
            text = event.arguments if event.type.endswith("arguments.done") else event.text
            assert added.get(event.item_id, "") == text
    ids = [item.id for item in final.output]
    assert len(set(ids)) == len(ids) and added.keys() <= set(ids)


def test_response_says_what_was_asked_for() -> None:
    schema = {"type": "object", "properties": {"fruit": {"type": "string"}}}
    asked = {
        "instructions": "Be brief.",
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "paint"},
        "parallel_tool_calls": False,
        "text": {"format": {"type": "json_schema", "name": "fruit", "schema": schema}},
        "metadata": {"project": "x"},
        "max_output_tokens": 40,
        "top_logprobs": 2,
        "store": True,
    }
    completion = {**USAGE_CHUNK, "choices": [{**chunk("stop")["choices"][0], "message": {"content": "x"}}]}
    response = Response.model_validate(whole_response(answering(**asked), completion))
    given = response.model_dump(include=set(asked), by_alias=True, exclude_unset=True)
    assert given.pop("store") is False
    assert given.pop("tools") == [{**TOOL, "strict": None}]
    del asked["store"], asked["tools"]
    assert given == asked
    assert (response.temperature, response.top_p) == (0.7, 0.95)

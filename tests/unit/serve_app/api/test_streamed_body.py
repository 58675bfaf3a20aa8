"""A body goes to the application in pieces that are read only when they are wanted."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from registry.errors import RequestTimeout, RequestTooLarge
from serve_app.api.http_server import BODY_WANTED, UNBUFFERED
from serve_app.api.streamed_body import ClientGone, StreamedBody

MAX_BYTES = 100
GONE: Message = {"type": "http.disconnect"}


class Client:
    """A client whose pieces arrive when the server reads them. The last one ends the body."""

    def __init__(self, *pieces: bytes, is_leaving: bool = False) -> None:
        self.messages: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        self.messages += [GONE] if is_leaving else [{"type": "http.request", "body": b""}]
        self.num_read = 0
        self.sent: list[Message] = []
        self.scope: dict[str, Any] = {
            "type": "http",
            "headers": [(b"transfer-encoding", b"chunked")],
            BODY_WANTED: asyncio.Event(),
            UNBUFFERED: self.receive,
        }

    async def receive(self) -> Message:
        self.num_read += 1
        return self.messages.pop(0)

    async def receive_from_serve(self) -> Message:
        """The `receive` of Serve, which reads everything. It must wait for the end of the body."""
        assert self.scope[BODY_WANTED].is_set()
        return GONE

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    def body(self, timeout_s: float = 5) -> StreamedBody:
        return StreamedBody(self.scope, self.receive_from_serve, MAX_BYTES, timeout_s)


async def answer(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def reading(num_messages: int, read: list[Message]) -> Any:
    """An application that answers after it has read so many messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(num_messages):
            read.append(await receive())
        await answer(send)

    return app


async def test_pieces_are_read_one_by_one() -> None:
    client = Client(b"a", b"b", b"c")
    read: list[Any] = []
    body = client.body()
    for number in range(1, 4):
        read.append((await body.receive())["body"])
        assert client.num_read == number
        assert not client.scope[BODY_WANTED].is_set()
    assert read == [b"a", b"b", b"c"]


async def test_after_the_end_serve_watches_for_the_client() -> None:
    client = Client(b"a")
    read: list[Any] = []
    await client.body().pass_to(reading(3, read), client.send)
    assert read[-1] is GONE
    assert client.num_read == 2
    assert b"connection" not in client.headers


async def test_answer_before_the_end_closes_the_connection() -> None:
    client = Client(b"a", b"b")
    await client.body().pass_to(reading(1, []), client.send)
    assert client.headers[b"connection"] == b"close"
    assert not client.scope[BODY_WANTED].is_set()


async def test_request_without_a_body_keeps_the_connection() -> None:
    client = Client()
    read: list[Any] = []
    client.scope["headers"] = []
    await client.body().pass_to(reading(1, read), client.send)
    assert read == [GONE]
    assert client.num_read == 0
    assert b"connection" not in client.headers


async def test_large_body_is_refused_at_its_bound() -> None:
    client = Client(b"x" * MAX_BYTES, b"x", b"x")
    read: list[Any] = []
    with pytest.raises(RequestTooLarge, match=f"over {MAX_BYTES} bytes"):
        await client.body().pass_to(reading(3, read), client.send)
    assert len(read) == 1


async def test_slow_body_is_refused_at_its_time() -> None:
    client = Client(b"a")

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    client.scope[UNBUFFERED] = never
    with pytest.raises(RequestTimeout, match=r"within 0\.05 s"):
        await client.body(timeout_s=0.05).receive()


async def test_client_that_leaves_is_noticed() -> None:
    client = Client(b"a", is_leaving=True)
    with pytest.raises(ClientGone):
        await client.body().pass_to(reading(2, []), client.send)
    assert client.sent == []

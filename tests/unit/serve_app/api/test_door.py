"""The key and a place come before the body, and the whole body comes before the application."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from registry.errors import InvalidApiKey
from registry.keys import hash_key
from registry.records import KeyRecord, utc_now
from registry.settings import StorageSettings
from serve_app.api.auth import Authenticator
from serve_app.api.door import BODIES_AT_ONCE, Door
from serve_app.api.http_server import BODY_WANTED
from serve_app.api.key_check import CALLER
from serve_app.api.rate_limits import RequestLimit
from serve_app.settings import BaseModelSettings, IngressSettings, LimitSettings, Settings

MAX_REQUEST_BYTES = 1024
NUM_PLACES = BODIES_AT_ONCE + 1
NUM_STRANGERS = 1
BODY_TIMEOUT_S = 0.2
USERS = {hash_key(user): user for user in ("alice", "bob")}


class World:
    """The application behind the door, and the keys. Both wait if a test tells them to."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.may_look_up = asyncio.Event()
        self.may_look_up.set()
        self.num_looked_up = 0

    async def lookup(self, key_hash: str) -> KeyRecord:
        self.num_looked_up += 1
        await self.may_look_up.wait()
        user = USERS.get(key_hash)
        if user is None:
            raise InvalidApiKey("the API key is not valid")
        return KeyRecord(id="key-0", user=user, name="key", created=utc_now())

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = scope.get(CALLER)
        body = await Request(scope, receive).body() if scope["method"] == "POST" else b""
        self.bodies.append((caller.user if caller else "", body))
        await self.may_answer.wait()
        await JSONResponse("done")(scope, receive, send)


class Client:
    """A client with one request. The test says how its body arrives."""

    def __init__(self, door: Door, key: str | None, path: str, address: str, **headers: str) -> None:
        all_headers = headers if key is None else {"authorization": f"Bearer {key}", **headers}
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST" if headers else "GET",
            "path": path,
            "query_string": b"",
            "client": (address, 1234),
            "headers": [(n.replace("_", "-").encode(), v.encode()) for n, v in all_headers.items()],
            BODY_WANTED: asyncio.Event(),
        }
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.num_received = 0
        self.task = asyncio.create_task(door(self.scope, self._receive, self._send))

    async def _receive(self) -> Message:
        message = await self.incoming.get()
        self.num_received += 1
        return message

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def piece(self, body: bytes, more_body: bool = True) -> None:
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": more_body})

    async def answer(self) -> tuple[int, str]:
        """The status of the answer and, if it is an error, its code."""
        await asyncio.wait_for(self.task, 5)
        body = json.loads(b"".join(message.get("body", b"") for message in self.sent))
        return self.sent[0]["status"], body["error"]["code"] if isinstance(body, dict) else ""

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


Ask = Callable[..., Client]


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
async def ask(world: World) -> AsyncIterator[Ask]:
    base = BaseModelSettings(
        id="one", name="One", description="", last_modified=utc_now(), source="/x", max_context_tokens=64
    )
    settings = Settings(
        storage=StorageSettings(bucket="tests"),
        ingress=IngressSettings(
            max_request_bytes=MAX_REQUEST_BYTES,
            body_timeout_s=BODY_TIMEOUT_S,
            max_unknown_keys_per_address=NUM_STRANGERS,
        ),
        limits=LimitSettings(max_concurrent_requests_per_user=NUM_PLACES),
        default_model="one",
        models=(base,),
    )
    door = Door(
        world.app,
        frozenset({"/healthz"}),
        Authenticator(world.lookup),
        RequestLimit(None, 1),
        lambda: settings,
    )
    clients = []

    def start(
        key: str | None = "alice", path: str = "/v1/models", address: str = "10.0.0.1", **headers: str
    ) -> Client:
        clients.append(Client(door, key, path, address, **headers))
        return clients[-1]

    yield start
    for client in clients:
        client.task.cancel()
    await asyncio.gather(*(client.task for client in clients), return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.mark.parametrize("key", [None, "", "unknown", "k" * 1000])
async def test_without_a_good_key_nothing_of_the_body_is_read(
    ask: Ask, world: World, key: str | None
) -> None:
    client = ask(key, content_length="5000")
    client.piece(b"{")
    assert await client.answer() == (401, "invalid_api_key")
    assert client.num_received == 0 and not client.scope[BODY_WANTED].is_set()
    assert client.headers[b"www-authenticate"] == b"Bearer"
    assert client.headers[b"connection"] == b"close", "the rest of the body is no request"
    assert world.bodies == []


async def test_public_paths_need_no_key(ask: Ask, world: World) -> None:
    assert await ask(None, path="/healthz").answer() == (200, "")
    assert world.bodies == [("", b"")]


async def test_the_application_gets_the_caller_and_the_whole_body(ask: Ask, world: World) -> None:
    client = ask(transfer_encoding="chunked")
    for piece in (b"{", b'"a":', b"1"):
        client.piece(piece)
    await until(lambda: client.num_received == 3)
    assert world.bodies == []
    client.piece(b"}", more_body=False)
    assert await client.answer() == (200, "")
    assert world.bodies == [("alice", b'{"a":1}')]


async def test_a_body_that_does_not_come_in_time_is_refused(ask: Ask, world: World) -> None:
    client = ask(content_length="10")
    client.piece(b"{")
    assert await client.answer() == (408, "request_timeout")
    assert world.bodies == []


@pytest.mark.parametrize("headers", [{"content_length": "1025"}, {"content_length": "9" * 30}])
async def test_a_body_announced_too_large_is_refused_unread(ask: Ask, headers: dict[str, str]) -> None:
    client = ask(**headers)
    client.piece(b"x")
    assert await client.answer() == (413, "request_too_large")
    assert client.num_received == 0


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
async def test_a_compressed_body_is_refused_unread(ask: Ask, encoding: str) -> None:
    client = ask(content_length="10", content_encoding=encoding)
    client.piece(b"x")
    assert await client.answer() == (415, "unsupported_encoding")
    assert client.num_received == 0
    assert client.headers[b"connection"] == b"close"


async def test_a_body_that_is_not_compressed_may_say_so(ask: Ask, world: World) -> None:
    client = ask(content_length="2", content_encoding="identity")
    client.piece(b"{}", more_body=False)
    assert await client.answer() == (200, "")
    assert world.bodies == [("alice", b"{}")]


async def test_a_body_that_turns_out_too_large_is_refused(ask: Ask) -> None:
    client = ask(transfer_encoding="chunked")
    for _ in range(3):
        client.piece(b"x" * 500)
    assert await client.answer() == (413, "request_too_large")


async def test_a_client_that_goes_away_amid_its_body_is_nobodys_business(ask: Ask, world: World) -> None:
    client = ask(content_length="10")
    client.piece(b"{")
    client.incoming.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(client.task, 5)
    assert client.sent == [] and world.bodies == []


async def test_a_user_has_so_many_requests_at_once_and_others_have_theirs(ask: Ask, world: World) -> None:
    world.may_answer.clear()
    held = [ask() for _ in range(NUM_PLACES)]
    await until(lambda: len(world.bodies) == NUM_PLACES)
    refused = ask(content_length="10")
    refused.piece(b"{")
    assert await refused.answer() == (429, "rate_limited")
    assert int(refused.headers[b"retry-after"]) >= 1 and refused.num_received == 0
    other = ask("bob")
    world.may_answer.set()
    assert [await client.answer() for client in [*held, other]] == [(200, "")] * (NUM_PLACES + 1)
    assert await ask().answer() == (200, "")


@pytest.mark.parametrize("ending", ["timeout", "gone", "cancelled", "too large"])
async def test_a_place_is_given_back_however_a_request_ends(ask: Ask, ending: str) -> None:
    for _ in range(NUM_PLACES):
        client = ask(transfer_encoding="chunked")
        client.piece(b"{")
        await until(lambda client=client: client.num_received == 1)
        if ending == "gone":
            client.incoming.put_nowait({"type": "http.disconnect"})
        elif ending == "cancelled":
            client.task.cancel()
        elif ending == "too large":
            client.piece(b"x" * 2000)
        await asyncio.wait([client.task])
    assert [await ask().answer() for _ in range(NUM_PLACES)] == [(200, "")] * NUM_PLACES


async def test_bodies_of_one_user_have_a_size_together(ask: Ask, world: World) -> None:
    world.may_answer.clear()
    held = [ask(content_length=str(MAX_REQUEST_BYTES)) for _ in range(BODIES_AT_ONCE)]
    for client in held:
        client.piece(b"x" * MAX_REQUEST_BYTES, more_body=False)
    await until(lambda: len(world.bodies) == BODIES_AT_ONCE)
    refused = ask(content_length="1")
    refused.piece(b"x", more_body=False)
    assert await refused.answer() == (429, "rate_limited")
    other = ask("bob", content_length="1")
    other.piece(b"x", more_body=False)
    world.may_answer.set()
    assert [await client.answer() for client in [*held, other]] == [(200, "")] * (BODIES_AT_ONCE + 1)


async def test_unknown_keys_of_one_address_are_looked_up_a_few_at_a_time(ask: Ask, world: World) -> None:
    assert await ask("bob").answer() == (200, "")
    world.may_look_up.clear()
    looked_up = ask("stranger", address="10.0.0.9")
    await until(lambda: world.num_looked_up == 2)
    together = ask("stranger", address="10.0.0.9")
    refused = ask("another", address="10.0.0.9")
    assert await refused.answer() == (429, "rate_limited")
    assert await ask("bob", address="10.0.0.9").answer() == (200, ""), "a known key does not wait for them"
    elsewhere = ask("third", address="10.0.0.8")
    await until(lambda: world.num_looked_up == 3)
    world.may_look_up.set()
    for client in (looked_up, together, elsewhere):
        assert await client.answer() == (401, "invalid_api_key")
    assert world.num_looked_up == 3
    assert await ask("another", address="10.0.0.9").answer() == (401, "invalid_api_key")

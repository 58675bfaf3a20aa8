"""Every error inside becomes an answer in the form of the API, with one harmless id."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.http_server import BODY_WANTED, InForm, LazyBody, http_layers

Headers = list[tuple[bytes, bytes]]


async def nothing() -> Message:
    return await asyncio.Event().wait()  # type: ignore[return-value]


async def asked(app: ASGIApp, headers: Headers | None = None) -> tuple[Response, Scope]:
    """The answer to a request, and the scope that the application got."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": headers or []}
    await InForm(app)(scope, nothing, send)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1 and not sent[-1].get("more_body", False)
    answer = Response(b"".join(message.get("body", b"") for message in sent), starts[0]["status"])
    answer.raw_headers = list(starts[0]["headers"])
    return answer, scope


def answering(response: Response) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await response(scope, receive, send)

    return app


def raising(error: BaseException) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """This application answers nothing, as Serve does when a call of it was cancelled."""


def assert_in_form(answer: Response, status: int, code: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert json.loads(bytes(answer.body))["error"]["code"] == code
    assert ("retry-after" in answer.headers) == (status == 503)
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "app",
    [silent, raising(ValueError("secret")), raising(asyncio.CancelledError())],
    ids=["no", "error", "end"],
)
async def test_a_request_without_an_answer_gets_one(app: ASGIApp) -> None:
    answer, _ = await asked(app)
    assert_in_form(answer, 500, "internal_error")
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "internal_error"), (503, "unavailable"), (408, "request_timeout"), (418, "invalid_request")],
)
async def test_an_error_in_plain_text_is_replaced(status: int, code: str) -> None:
    answer, _ = await asked(answering(PlainTextResponse("Internal Server Error at /secret", status)))
    assert_in_form(answer, status, code)
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "response",
    [JSONResponse({"error": {"code": "mine"}}, 404), PlainTextResponse("fine"), JSONResponse("fine")],
)
async def test_all_else_is_passed_on_as_it_is(response: Response) -> None:
    answer, _ = await asked(answering(response))
    assert (answer.status_code, answer.body) == (response.status_code, response.body)
    assert answer.raw_headers == response.raw_headers


async def test_an_error_after_the_client_has_left_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def stumbles(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise RuntimeError("dictionary changed size during iteration")

    async def left() -> Message:
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await InForm(stumbles)({"type": "http", "headers": []}, left, send)
    assert (sent, caplog.records) == ([], [])


async def test_who_is_cancelled_answers_nothing() -> None:
    asking = asyncio.create_task(asked(lambda *_: asyncio.sleep(60)))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("request_id", [b"a", b"mine-1", b"A.b_c-9", b"x" * 64])
async def test_an_id_that_is_one_is_kept(request_id: bytes) -> None:
    _, scope = await asked(silent, [(b"x-request-id", request_id)])
    assert [value for name, value in scope["headers"] if name == b"x-request-id"] == [request_id]


@pytest.mark.parametrize(
    "values",
    [[], [b""], [b"x" * 65], [b"<script>"], [b"a b"], [b"a,b"], [b"\xff\xfe"], [b"a\n"], [b"a", b"b"]],
)
async def test_any_other_is_replaced_by_ours(values: list[bytes]) -> None:
    _, scope = await asked(silent, [(b"x-request-id", value) for value in values])
    (found,) = [value for name, value in scope["headers"] if name == b"x-request-id"]
    assert len(found) == 36 and found not in values


@pytest.mark.parametrize(
    "name", [b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"serve_multiplexed_model_id"]
)
async def test_clients_do_not_tell_serve_what_to_do(name: bytes) -> None:
    _, scope = await asked(silent, [(name, b"1"), (b"accept", b"*/*")])
    assert [header[0] for header in scope["headers"]] == [b"accept", b"x-request-id"]


async def test_a_body_is_read_when_it_is_wanted() -> None:
    received: list[Callable[[], Awaitable[Message]]] = []
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(receive)
        scopes.append(scope)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}"}

    await LazyBody(app)({"type": "http"}, receive, lambda _: asyncio.sleep(0))
    reading = asyncio.ensure_future(received[0]())
    done, _ = await asyncio.wait([reading], timeout=0.05)
    assert not done
    scopes[0][BODY_WANTED].set()
    assert (await reading)["body"] == b"{}"


def test_what_is_no_replica_reads_bodies_as_serve_does() -> None:
    """Serve's own proxy sends the scope to another process, so the scope must stay as it is."""
    layers: list[Any] = [layer.cls for layer in http_layers()]
    assert layers == [InForm]

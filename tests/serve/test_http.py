"""HTTP that no client library sends, over raw sockets: it is refused cleanly, and others are still served."""

import gzip
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from serve_app.deployment_options import INGRESS, model_server_name
from tests.serve.conftest import WIDE_LIMITS
from tests.support.account import HELLO, Account
from tests.support.connection import TIMEOUT_S, Answer, Connection, connected, head, request
from tests.support.replicas import num_ongoing
from tests.support.service import MAX_REQUEST_BYTES, Service
from tests.support.waiting import wait_until

GOOD = json.dumps({"messages": HELLO}).encode()
NUM_CLIENTS = 200
NUM_AT_ONCE = 50
LIMITS = WIDE_LIMITS


def assert_error(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body)["error"]["code"] == code


def assert_refused(connection: Connection) -> None:
    """Assert that HAProxy itself refuses the request and reads nothing more on this connection."""
    assert connection.answer().status == 400
    assert connection.is_closed()


@pytest.fixture(autouse=True)
def still_serving(service: Service, alice: Account) -> Iterator[None]:
    yield
    assert httpx.get(f"{service.url}/healthz", trust_env=False, timeout=TIMEOUT_S).status_code == 200
    assert alice.generate().status_code == 200


# Lengths


def test_body_in_chunks_needs_no_length(service: Service, alice: Account) -> None:
    with connected(service) as connection:
        connection.send(head(alice, "Transfer-Encoding: chunked"))
        for start in range(0, len(GOOD), 7):
            piece = GOOD[start : start + 7]
            connection.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        connection.send(b"0\r\n\r\n")
        assert connection.answer().status == 200


def test_body_without_length_and_chunks_is_no_body(service: Service, alice: Account) -> None:
    with connected(service) as connection:
        connection.send(head(alice))
        assert_error(connection.answer(), 422, "invalid_request")


def test_body_shorter_than_its_length_is_never_answered_as_whole(service: Service, alice: Account) -> None:
    with connected(service) as connection:
        connection.send(head(alice, f"Content-Length: {len(GOOD) + 10}") + GOOD)
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.is_closed()


def test_body_longer_than_its_length_ends_the_connection(service: Service, alice: Account) -> None:
    """The part within the length is no JSON, and the rest is no request."""
    with connected(service) as connection:
        connection.send(head(alice, f"Content-Length: {len(GOOD) - 3}") + GOOD + b"\r\n\r\n")
        assert_error(connection.answer(), 422, "invalid_request")
        assert_refused(connection)


@pytest.mark.parametrize("length", ["-1", "ten", "1, 2", "9" * 30])
def test_length_that_is_none_is_refused(service: Service, alice: Account, length: str) -> None:
    with connected(service) as connection:
        connection.send(head(alice, f"Content-Length: {length}"))
        assert_refused(connection)


def test_of_length_and_chunks_the_chunks_count(service: Service, alice: Account) -> None:
    """Two servers may read this as two requests. HAProxy removes the length (RFC 9112, 6.3)."""
    with connected(service) as connection:
        chunk = f"{len(GOOD):x}\r\n".encode() + GOOD + b"\r\n0\r\n\r\n"
        lengths = (f"Content-Length: {len(chunk) + 10}", "Transfer-Encoding: chunked")
        connection.send(head(alice, *lengths) + chunk)
        assert connection.answer().status == 200


def test_body_over_the_limit_is_refused_by_its_length(service: Service, alice: Account) -> None:
    with connected(service) as connection:
        connection.send(head(alice, f"Content-Length: {MAX_REQUEST_BYTES + 1}"))
        assert_error(connection.answer(), 413, "request_too_large")


def test_body_over_the_limit_is_refused_while_it_arrives(service: Service, alice: Account) -> None:
    with connected(service) as connection:
        connection.send(head(alice, "Transfer-Encoding: chunked"))
        piece = b"10000\r\n" + b" " * 2**16 + b"\r\n"
        connection.send(piece * (MAX_REQUEST_BYTES // 2**16 + 1))
        assert_error(connection.answer(), 413, "request_too_large")


# The course of a connection


def test_client_that_waits_for_100_continue_gets_it(service: Service, alice: Account) -> None:
    with connected(service) as connection:
        connection.send(head(alice, f"Content-Length: {len(GOOD)}", "Expect: 100-continue"))
        assert connection.answer().status == 100
        connection.send(GOOD)
        assert connection.answer().status == 200


def test_pipelined_requests_are_answered_in_order(service: Service, alice: Account) -> None:
    models = head(alice, method="GET", path="/v1/models")
    nothing = head(alice, method="GET", path="/v1/nothing")
    with connected(service) as connection:
        connection.send(models + request(alice, GOOD) + nothing + request(alice, b"{") + models)
        assert [connection.answer().status for _ in range(5)] == [200, 200, 404, 422, 200]


def test_others_are_served_while_a_body_comes_byte_by_byte(service: Service, alice: Account) -> None:
    """Each byte is sent after another client was served since the byte before."""
    with connected(service) as connection:
        connection.send(head(alice, f"Content-Length: {len(GOOD)}"))
        for byte in GOOD:
            connection.send(bytes([byte]))
            assert alice.http.get("/healthz").status_code == 200
        assert connection.answer().status == 200


def test_clients_that_send_half_a_head_do_not_keep_others_out(service: Service, alice: Account) -> None:
    connections = [Connection(service) for _ in range(NUM_CLIENTS)]
    for connection in connections:
        connection.send(head(alice)[:-20])
    assert alice.generate().status_code == 200
    for connection in connections:
        connection.vanish()


@pytest.mark.parametrize(
    ("path", "header"),
    [("/v1/models", f"X-Large: {'x' * 2**16}"), (f"/v1/models/{'x' * 2**16}", "X-Small: x")],
)
def test_head_over_16_kb_is_refused(service: Service, alice: Account, path: str, header: str) -> None:
    with connected(service) as connection:
        connection.send(head(alice, header, method="GET", path=path))
        assert_refused(connection)


@pytest.mark.parametrize(
    "line",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(service: Service, line: bytes) -> None:
    """The last of the lines is the beginning of TLS."""
    with connected(service) as connection:
        connection.send(line)
        assert_refused(connection)


# Bodies

OF_PATH = [("/v1/generate_response", 422), ("/openai/v1/chat/completions", 400)]
HELLO_AND = b'{"messages": [{"role": "user", "content": "Hello"}], '


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/generate_response", 422), ("/openai/v1/chat/completions", 400)]
)
@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}',
        b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
        b'{"messages": [{"role": "user", "content": "\x00"}]}',
        GOOD + b"\x00",
        b"\x00" * 1000,
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "\\udc00\\ud800"}]}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        HELLO_AND + b'"metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        HELLO_AND + b'"temperature": NaN}',
        HELLO_AND + b'"top_p": Infinity}',
        HELLO_AND + b'"top_p": -Infinity}',
        HELLO_AND + b'"seed": ' + b"9" * 5000 + b"}",
        HELLO_AND + b'"seed": ' + b"9" * 100 + b"}",
        HELLO_AND + b'"max_tokens": 1e400}',
        gzip.compress(GOOD),
    ],
    ids=lambda body: repr(body[:60]) if isinstance(body, bytes) else str(body),
)
def test_broken_body_is_refused(
    service: Service, alice: Account, body: bytes, path: str, status: int
) -> None:
    with connected(service) as connection:
        connection.send(request(alice, body, path=path))
        assert_error(connection.answer(), status, "invalid_request")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-be"])
def test_body_in_another_encoding_of_unicode_is_read(service: Service, alice: Account, encoding: str) -> None:
    """The first definition of JSON allows these encodings. The beginning of a text tells which one it is."""
    with connected(service) as connection:
        connection.send(request(alice, GOOD.decode().encode(encoding)))
        assert connection.answer().status == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
def test_compressed_body_is_not_unpacked(service: Service, alice: Account, encoding: str) -> None:
    """A small compressed body could be a large one."""
    with connected(service) as connection:
        connection.send(request(alice, gzip.compress(GOOD), f"Content-Encoding: {encoding}"))
        assert_error(connection.answer(), 415, "unsupported_encoding")


def test_of_a_key_that_comes_twice_the_last_counts(service: Service, alice: Account) -> None:
    """Nearly all programs read JSON so, and nothing in front of this server reads it in another way."""
    with connected(service) as connection:
        connection.send(request(alice, b'{"model": "one", "model": "nothing", ' + GOOD[1:]))
        assert_error(connection.answer(), 404, "model_not_found")


ODD = ["%00", "%FF%FE", "%ED%A0%80", "..", "%2E%2E", "a%0D%0Ab", "%F0%9F%90%AF", "x" * 10_000]


@pytest.mark.parametrize("ref", ODD)
def test_odd_path_is_not_found(service: Service, alice: Account, ref: str) -> None:
    for path in (f"/v1/models/{ref}", f"/v1/jobs/{ref}/events", f"/openai/v1/models/{ref}"):
        with connected(service) as connection:
            connection.send(head(alice, path=path, method="GET"))
            assert connection.answer().status == 404


# Clients that vanish


def streaming(service: Service, account: Account, seed: int) -> Connection:
    """A connection in the middle of an endless stream."""
    connection = Connection(service)
    messages = [{"role": "user", "content": "endless and slow"}]
    connection.send(
        request(account, json.dumps({"messages": messages, "stream": True, "seed": seed}).encode())
    )
    status = connection.file.readline()
    assert b" 200 " in status, status + connection.file.read1()
    while b"delta" not in (line := connection.file.readline()):
        assert line, "the stream did not begin"
    return connection


def test_hundreds_of_clients_that_vanish_leave_nothing_running(service: Service, alice: Account) -> None:
    def vanish(seed: int) -> None:
        connection = streaming(service, alice, seed)
        connection.vanish() if seed % 2 else connection.close()

    with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
        list(pool.map(vanish, range(NUM_CLIENTS)))
    wait_until(lambda: all((service.signals / f"ended {seed}").exists() for seed in range(NUM_CLIENTS)), 30)
    assert {int(path.name.split()[1]) for path in service.signals.glob("ended [0-9]*")} >= set(
        range(NUM_CLIENTS)
    )
    wait_until(lambda: num_ongoing(model_server_name("one")) == 0, 30)
    wait_until(lambda: num_ongoing(INGRESS) == 0, 30)


def test_clients_that_vanish_before_an_answer_leave_nothing_running(service: Service, alice: Account) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "endless"}], "stream": True}).encode()
    for _ in range(NUM_AT_ONCE):
        connection = Connection(service)
        connection.send(request(alice, body))
        connection.vanish()
    wait_until(lambda: num_ongoing(INGRESS) == 0, 30)
    wait_until(lambda: num_ongoing(model_server_name("one")) == 0, 30)

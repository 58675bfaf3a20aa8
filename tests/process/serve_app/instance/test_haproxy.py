"""HAProxy itself, with Ray's configuration as we change it, in front of a small server."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from serve_app.http_settings import UPLOAD_PATH, HttpSettings
from serve_app.instance.haproxy import mend
from serve_app.instance.haproxy_directives import UnexpectedConfiguration
from tests.support.front_door import HALF_SENT, SILENCE_S, front_door, held, ray_configuration
from tests.support.storage import free_port

AT_ONCE_S = 10
"""And not the minute for which the connections are held."""
SHORT = HttpSettings(request_timeout_s=2, inactivity_timeout_s=2)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """With timeouts that are shorter than the silence of the server."""
    assert SHORT.inactivity_timeout_s < SILENCE_S
    with front_door(tmp_path_factory.mktemp("hasty"), SHORT) as url:
        yield url


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while piece := connection.recv(2**16):
        answer += piece
    return answer


def test_two_thousand_half_sent_requests_are_in_nobodys_way(tmp_path: Path) -> None:
    with front_door(tmp_path, HttpSettings(request_timeout_s=60)) as url:
        started = time.monotonic()
        with held(url, [HALF_SENT[number % len(HALF_SENT)] for number in range(2000)]):
            for _ in range(20):
                asked = time.monotonic()
                assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
                assert time.monotonic() - asked < AT_ONCE_S
        assert time.monotonic() - started < 60, "the connections were closed before the test was over"


@pytest.mark.parametrize("content", HALF_SENT)
def test_a_request_that_does_not_arrive_is_given_up(hasty: str, content: bytes) -> None:
    started = time.monotonic()
    with held(hasty, [content]) as (connection,):
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < 2 * SHORT.request_timeout_s + 1


def test_a_large_body_that_stops_arriving_is_given_up(hasty: str) -> None:
    """The server has its beginning already, and hears that there is no more."""
    head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n"
    started = time.monotonic()
    with held(hasty, [head + b"x" * 100_000]) as (connection,):
        assert json.loads(read_all(connection).split(b"\r\n\r\n")[1])["error"]["code"] == "invalid_request"
    assert time.monotonic() - started < 2 * SHORT.inactivity_timeout_s + 1


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_stream_may_be_silent_for_longer_than_any_timeout(hasty: str, size: int) -> None:
    answer = httpx.post(f"{hasty}/silent", content=b"x" * size, timeout=30, trust_env=False)
    assert answer.text == "before after"


@pytest.mark.parametrize("padding", [0, 100_000])
def test_a_server_hears_that_its_client_has_left(hasty: str, tmp_path: Path, padding: int) -> None:
    """The body comes in other packets than the head, as httpx and OpenAI's client send it."""
    body = str(tmp_path / "left").encode() + b" " * padding
    with held(hasty, [b"POST /endless HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)]) as (
        client,
    ):
        client.sendall(body)
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        assert not (tmp_path / "left").exists()
    left = time.monotonic()
    while not (tmp_path / "left").exists():
        assert time.monotonic() - left < 5, "it speaks to nobody"
        time.sleep(0.01)


def test_a_body_that_is_too_large_is_refused_unread(hasty: str) -> None:
    answer = httpx.post(f"{hasty}/x", content=b"x" * (2**20 + 1), trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers["x-request-id"])


def test_a_file_may_be_larger_than_any_other_body(hasty: str) -> None:
    answer = httpx.post(f"{hasty}{UPLOAD_PATH}", content=b"x" * (2**20 + 1), trust_env=False)
    assert answer.text == f"{2**20 + 1} bytes"
    answer = httpx.post(f"{hasty}{UPLOAD_PATH}/x", content=b"x" * (2**20 + 1), trust_env=False)
    assert answer.status_code == 413


def test_an_address_has_so_many_connections_and_no_more(tmp_path: Path) -> None:
    with front_door(tmp_path, HttpSettings(max_connections_per_address=40)) as url:
        with httpx.Client(base_url=url, trust_env=False) as before, held(url, [b""] * 39):
            assert before.get("/x").status_code == 200
            refused = httpx.get(f"{url}/x", trust_env=False)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
            assert refused.headers["retry-after"]
            with ThreadPoolExecutor(20) as pool:
                answers = [pool.submit(httpx.get, f"{url}/x", trust_env=False) for _ in range(20)]
            assert all(it.exception() or it.result().status_code == 429 for it in answers)
        while httpx.get(f"{url}/x", trust_env=False).status_code != 200:
            continue


def test_the_servers_learn_the_clients_address_from_haproxy_alone(hasty: str) -> None:
    answer = httpx.get(f"{hasty}/address", headers={"X-Forwarded-For": "1.2.3.4"}, trust_env=False)
    assert answer.text == "127.0.0.1"


def test_without_a_server_the_answer_is_ours(tmp_path: Path) -> None:
    with front_door(tmp_path, HttpSettings(), with_server=False) as url:
        answer = httpx.get(f"{url}/x", trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] and answer.headers["x-request-id"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_server_that_ends_while_it_has_a_request_is_an_answer_of_ours(tmp_path: Path, method: str) -> None:
    """HAProxy would close the client's connection if it had used the connection to the server before."""
    with front_door(tmp_path, HttpSettings()) as url, httpx.Client(base_url=url, trust_env=False) as client:
        assert client.request(method, "/x").status_code == 200
        answer = client.request(method, "/ended")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] and answer.headers["x-request-id"]


def test_it_listens_nowhere_else(tmp_path: Path) -> None:
    with front_door(tmp_path, HttpSettings()) as url:
        (process,) = [it for it in psutil.Process().children() if str(tmp_path) in " ".join(it.cmdline())]
        listening = [it.laddr for it in process.net_connections("inet") if it.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", httpx.URL(url).port)]


def test_a_configuration_that_is_not_known_is_not_started(tmp_path: Path) -> None:
    path = ray_configuration(tmp_path, free_port(), free_port())
    path.write_text(path.read_text().replace("listen stats", "listen numbers"))
    with pytest.raises(UnexpectedConfiguration):
        mend(path)
    command = [
        sys.executable,
        "-c",
        "from serve_app.instance.haproxy import main; main()",
        "-db",
        "-f",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "does not start HAProxy" in done.stderr and "listen numbers" in done.stderr


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("BREW / HTTP/1.1", 405),
        ("get / HTTP/1.1", 405),
        ("TRACE / HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 400),
        ("GET *x HTTP/1.1", 400),
        ("GET /-/routes HTTP/1.1", 404),
        ("GET /%2D/healthz HTTP/1.1", 404),
    ],
)
def test_what_the_servers_have_no_words_for_is_refused_in_our_form(
    hasty: str, head: str, status: int
) -> None:
    answer = sent(hasty, f"{head}\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert int(answer.split()[1]) == status, answer
    assert json.loads(answer.partition("\r\n\r\n")[2])["error"]["type"]


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_who_asks_for_another_protocol_is_answered_in_this_one(hasty: str, protocol: str) -> None:
    asked = f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n"
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    answer = sent(hasty, f"GET /x HTTP/1.1\r\nHost: x\r\n{asked}{key}\r\n", until=b"0 bytes")
    assert answer.startswith("HTTP/1.1 200 ")


def sent(url: str, text: str, until: bytes = b"") -> str:
    """The answer to `text`, to its end or to where it ends with `until`."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=20) as connection:
        connection.sendall(text.encode())
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
            if until and answer.endswith(until):
                break
        return answer.decode()

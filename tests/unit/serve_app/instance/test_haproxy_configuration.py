"""Our changes of the configuration that this version of Ray writes, and of one that another might write."""

import json
import re
from pathlib import Path

import pytest

from registry.errors import RateLimited, RequestTooLarge, Unavailable
from serve_app.api.errors import RETRY_AFTER_S, body_of
from serve_app.instance.haproxy_configuration import FrontDoor, error_files, mended
from serve_app.instance.haproxy_directives import UnexpectedConfiguration
from tests.support.front_door import ray_configuration

PORT = 45678


@pytest.fixture
def text(tmp_path: Path) -> str:
    return ray_configuration(tmp_path, PORT, 30000).read_text()


@pytest.fixture
def door(tmp_path: Path) -> FrontDoor:
    return FrontDoor(
        host="0.0.0.0",
        max_connections=1000,
        max_connections_per_address=400,
        request_timeout_s=7,
        inactivity_timeout_s=21,
        max_request_bytes=5000,
        errors=tmp_path / "errors",
    )


def binds(text: str) -> list[str]:
    return re.findall(r"^\s*bind (.*)$", text, re.MULTILINE)


def test_only_the_api_is_served_and_where_the_settings_say(text: str, door: FrontDoor) -> None:
    assert binds(text) == [":9101", f"127.0.0.1:{PORT}", "*:8404"]
    assert binds(mended(text, door)) == [f"0.0.0.0:{PORT}"]
    assert binds(mended(text, door._replace(host="::1"))) == [f"[::1]:{PORT}"]
    assert binds(mended(text, door._replace(host=None))) == [f"127.0.0.1:{PORT}"]


def test_bounds_are_those_of_the_settings(text: str, door: FrontDoor) -> None:
    lines = {line.strip() for line in mended(text, door).splitlines()}
    assert {
        "maxconn 1000",
        "timeout client 21s",
        "timeout http-request 7s",
        "http-request deny deny_status 429 if { sc0_conn_cur gt 400 }",
        "http-request deny deny_status 413 if { req.hdr_val(content-length) gt 5000 } "
        "!{ path /openai/v1/files }",
    } <= lines
    unknown = mended(text, door._replace(max_request_bytes=None))
    assert "content-length" not in unknown


def test_each_request_has_a_connection_of_its_own_that_is_probed(text: str, door: FrontDoor) -> None:
    lines = [line.strip() for line in mended(text, door).splitlines()]
    kept = {
        "option http-server-close",
        "option srvtcpka",
        "srvtcpka-idle 10s",
        "srvtcpka-intvl 5s",
        "srvtcpka-cnt 2",
    }
    assert kept <= set(lines)
    assert not [line for line in lines if line.startswith(("option http-keep-alive", "option httpclose"))]


def test_admin_socket_is_its_owners(text: str, door: FrontDoor) -> None:
    assert "mode 666" in text and "mode 666" not in mended(text, door)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("frontend http_frontend", "frontend api"),
        ("frontend prometheus", "frontend figures"),
        ("listen stats", "listen numbers"),
        ("    bind 127.0.0.1:45678\n", "    bind :9101 v4v6\n"),
        ("    bind 127.0.0.1:45678\n", "    bind 127.0.0.1:45678\n    bind :9102 v4v6\n"),
        ("backend http-tiger\n", "backend http-tiger\n    bind :9103\n"),
        ("defaults\n    mode http", "defaults more\n    mode http"),
        ("maxconn 4096", "maxconn-all 4096"),
        ("timeout client 3600s", "timeout client-side 3600s"),
        (" mode 666 ", " "),
    ],
)
def test_what_ray_is_not_known_to_write_is_refused(
    text: str, door: FrontDoor, was: str, becomes: str
) -> None:
    assert text.count(was) == 1
    with pytest.raises(UnexpectedConfiguration):
        mended(text.replace(was, becomes), door)


def test_errors_of_haproxy_are_like_ours(door: FrontDoor) -> None:
    for name, error in {
        "413.http": RequestTooLarge("the body is over 5000 bytes"),
        "429.http": RateLimited("too many connections from this address", retry_after_s=RETRY_AFTER_S),
        "502.http": Unavailable("the service cannot be reached at the moment; try again"),
        "503.http": Unavailable("the service cannot be reached at the moment; try again"),
        "504.http": Unavailable("the service cannot be reached at the moment; try again"),
    }.items():
        head, body = error_files(door)[name].split(b"\r\n\r\n")
        assert json.loads(body) == body_of(error)
        assert f"Content-Length: {len(body)}".encode() in head
        assert (f"Retry-After: {RETRY_AFTER_S}".encode() in head) == (name != "413.http")

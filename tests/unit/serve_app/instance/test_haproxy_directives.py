"""A configuration of HAProxy that would listen anywhere but at the API's address is refused."""

import re
from pathlib import Path

import pytest

from serve_app.instance.haproxy_configuration import FrontDoor, mended
from serve_app.instance.haproxy_directives import (
    DIRECTIVES,
    UnexpectedConfiguration,
    address_of,
    require_one_address,
)
from tests.support.front_door import ray_configuration
from tests.support.ray_private import HAPROXY_CONFIG_TEMPLATE

PORT = 45678
BIND = f"    bind 127.0.0.1:{PORT}\n"
GRPC = re.compile(
    r"^\{%- if config\.grpc_enabled %\}\nfrontend grpc_frontend.*?(?=^listen stats)", re.M | re.S
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ray_configuration(tmp_path_factory.mktemp("ray"), PORT, 30000).read_text()


def door(directory: Path, host: str | None) -> FrontDoor:
    return FrontDoor(
        host=host,
        max_connections=1000,
        max_connections_per_address=400,
        request_timeout_s=7,
        inactivity_timeout_s=21,
        max_request_bytes=5000,
        errors=directory / "errors",
    )


@pytest.mark.parametrize("host", ["127.0.0.1", None], ids=["set by us", "set by Serve"])
@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("frontend http_frontend\n", "frontend api\n"),
        ("frontend prometheus\n", "frontend metrics\n"),
        ("listen stats\n", "listen status\n"),
        (BIND, "    bind :9101 v4v6\n"),
        (BIND, "    bind *:9101 v4v6\n"),
        (BIND, "    bind [::]:9101 v6only\n"),
        (BIND, "    bind 127.0.0.1:45678,:9101\n"),
        (BIND, "    bind 127.0.0.1:45678,0.0.0.0:9101\n"),
        (BIND, "    bind 0.0.0.0:9101-9109\n"),
        (BIND, "    bind quic4@0.0.0.0:9101\n"),
        (BIND, "    bind ${ADDRESS}:9101\n"),
        (BIND, '    "bind" 127.0.0.1:45678\n'),
        (BIND, BIND + "    bind :9101 v4v6\n"),
        (BIND, BIND + "    bind [::]:9101 v6only\n"),
        (BIND, BIND + '    "bind" :9101\n'),
        (BIND, BIND + "    bin\\d :9101\n"),
        (BIND, BIND + "\tbind\t*:9101\n"),
        ("\ndefaults\n", "\ndefaults\n    bind :9101 v4v6\n"),
        ("    maxconn 4096\n", "    maxconn 4096\n    bind :9101 v4v6\n"),
        ("    maxconn 4096\n", "    maxconn 4096\n    stats  socket ipv4@*:9999 mode 600\n"),
        ("    maxconn 4096\n", "    maxconn 4096\n    stats bind-process all\n"),
        ("backend http-tiger\n", "backend http-tiger\n    bind [::]:9101\n"),
        ("backend http-tiger\n", "listen more\n    bind :9101 v4v6\nbackend http-tiger\n"),
        ("backend http-tiger\n", "backend http-tiger\n    listen more\n    bind :9101 v4v6\n"),
        ("backend http-tiger\n", "backend http-tiger\n    peers others\n    peer me 0.0.0.0:9101\n"),
        ("backend http-tiger\n", "backend http-tiger\n    log-forward logs\n    dgram-bind :514\n"),
        ("backend http-tiger\n", "peers others\n    bind :9101 v4v6\nbackend http-tiger\n"),
    ],
)
def test_another_address_is_refused(
    text: str, tmp_path: Path, host: str | None, was: str, becomes: str
) -> None:
    assert text.count(was) == 1
    with pytest.raises(UnexpectedConfiguration):
        mended(text.replace(was, becomes), door(tmp_path, host))


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("    bind *:80", ("*", 80)),
        ("    bind 0.0.0.0:80", ("0.0.0.0", 80)),
        ("    bind localhost:80", ("localhost", 80)),
        ("    bind [::1]:80", ("[::1]", 80)),
        ("    bind fd00::1:80", ("fd00::1", 80)),
    ],
)
def test_address_that_serve_writes_is_read(line: str, address: tuple[str, int]) -> None:
    assert address_of(line, "frontend http_frontend") == address


@pytest.mark.parametrize("line", ["    bind :80", "    bind *:80 v4v6", "    mode http", "", "    bind *"])
def test_line_in_another_form_is_no_address(line: str) -> None:
    with pytest.raises(UnexpectedConfiguration, match="frontend http_frontend"):
        address_of(line, "frontend http_frontend")


def test_message_names_the_addresses() -> None:
    with pytest.raises(UnexpectedConfiguration, match=r"\['\*:80', '\*:81'\] and not only at '\*:80'"):
        require_one_address("frontend a\n    bind *:80\n    bind *:81\n", "*:80")
    with pytest.raises(UnexpectedConfiguration, match=r"\[\] and not only"):
        require_one_address("frontend a\n    mode http\n", "*:80")


def test_every_directive_of_rays_template_is_known() -> None:
    """The list of directives refuses no option of Ray, except those for gRPC, which is not used."""
    template, num_removed = GRPC.subn("", HAPROXY_CONFIG_TEMPLATE)
    assert num_removed == 1
    found = set(re.findall(r"^(?: {2,}|.*?%\})(?!\s*[#{])\s*([a-z]\S*) ", template, re.MULTILINE))
    assert len(found) > 20
    heads = {"backend", "frontend", "listen"}
    assert {word for word in found - heads if not word.startswith("tune.h2.")} <= DIRECTIVES

"""Changes the configuration that Ray writes for HAProxy, so that it can face unknown clients.

    global      bounds the connections; only its owner can use the admin socket
    defaults    bounds the time for a request's head and the start of its body; HAProxy's own answers get the
                form of the API, except the one to bytes that are not HTTP, which is always HTML; no splicing,
                because HAProxy would not notice that a client has gone away if the body of its request came
                in another packet than the head; a connection to a replica for each request, because HAProxy
                gives no answer if a replica ends while it has a request of a connection that was used before;
                probes of these connections, because a node that is gone does not close them
    frontend    listens at `http.host`; bounds the connections per address; refuses bodies that are too large,
                except those of files
    the rest    removes the metrics and the status page: Ray has the same figures, and asks for a token

All sections that Ray's template may contain are known here. A configuration with another one is refused, so
that a port of a later version of Ray is not opened by accident. `instance.haproxy_directives` checks the
result line by line.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from registry.errors import INTERNAL_ERROR, UNREACHABLE
from registry.json_text import compact_json
from serve_app.http_settings import UPLOAD_PATH
from serve_app.instance.haproxy_directives import UnexpectedConfiguration, address_of, require_one_address

RETRY_AFTER_S = 2
FRONTEND = "frontend http_frontend"
CLOSED_SECTIONS = ("frontend prometheus", "listen stats")
SILENT_S = 10
PROBE_S = 5
NUM_PROBES = 2
"""A connection has failed if the replica's node was silent for SILENT_S and answers none of the probes."""
METHODS = "GET HEAD POST PUT PATCH DELETE OPTIONS"


class FrontDoor(NamedTuple):
    host: str | None  # None: the address that Serve wrote
    max_connections: int
    max_connections_per_address: int
    request_timeout_s: int
    inactivity_timeout_s: int
    max_request_bytes: int | None  # None: only the ingress checks it
    errors: Path


class Section(NamedTuple):
    head: str
    text: str


class OwnError(NamedTuple):
    """An answer of HAProxy itself. It replaces HAProxy's HTML answer for the status `file`."""

    file: int
    status: str
    type: str
    code: str
    message: str
    retry_after_s: int | None = None


UNAVAILABLE = (
    "503 Service Unavailable",
    "unavailable_error",
    "unavailable",
    UNREACHABLE,
    RETRY_AFTER_S,
)
OWN_ERRORS = (
    OwnError(
        400,
        "400 Bad Request",
        "invalid_request_error",
        "invalid_request",
        "the request is not valid HTTP, or did not arrive whole",
    ),
    OwnError(404, "404 Not Found", "not_found_error", "route_not_found", "there is no such route"),
    OwnError(
        405,
        "405 Method Not Allowed",
        "invalid_request_error",
        "method_not_allowed",
        "this route does not take that method",
    ),
    OwnError(
        408,
        "408 Request Timeout",
        "invalid_request_error",
        "request_timeout",
        "the request did not arrive in time",
    ),
    OwnError(
        413,
        "413 Content Too Large",
        "invalid_request_error",
        "request_too_large",
        "the body is too large",
    ),
    OwnError(
        429,
        "429 Too Many Requests",
        "rate_limit_error",
        "rate_limited",
        "too many connections from this address",
        RETRY_AFTER_S,
    ),
    OwnError(500, "500 Internal Server Error", "server_error", "internal_error", INTERNAL_ERROR),
    OwnError(502, *UNAVAILABLE),
    OwnError(503, *UNAVAILABLE),
    OwnError(504, *UNAVAILABLE),
)


def mended(text: str, door: FrontDoor) -> str:
    """Returns Ray's configuration with the changes.

    Raises: UnexpectedConfiguration.
    """
    sections = [section for section in _sections(text) if section.head not in CLOSED_SECTIONS]
    address = _address(sections, door)
    result = "".join(f"{section.head}\n{_mended(section, door, address)}" for section in sections)
    require_one_address(result, address)
    return result


def error_files(door: FrontDoor) -> dict[str, bytes]:
    """Returns the complete answers by the names of their files in `door.errors`."""
    return {f"{error.file}.http": _answer(error, door) for error in OWN_ERRORS}


def _answer(error: OwnError, door: FrontDoor) -> bytes:
    message = error.message
    if error.file == 413 and door.max_request_bytes:
        message = f"the body is over {door.max_request_bytes} bytes"
    content = {"type": error.type, "code": error.code, "message": message, "param": None}
    body = compact_json({"error": content}).encode()
    lines = [f"HTTP/1.1 {error.status}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    if error.retry_after_s is not None:
        lines.append(f"Retry-After: {error.retry_after_s}")
    if error.file in (400, 408):  # The rest of what this client has sent must not be read as a request.
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _address(sections: Iterable[Section], door: FrontDoor) -> str:
    """Returns the address of the API. The frontend's first line has the port, and the host if none is set."""
    (text,) = (section.text for section in sections if section.head == FRONTEND)
    host, port = address_of(text.partition("\n")[0], FRONTEND)
    if door.host is not None:
        host = f"[{door.host}]" if ":" in door.host else door.host
    return f"{host}:{port}"


def _mended(section: Section, door: FrontDoor, address: str) -> str:
    match section.head:
        case "global":
            text = _replaced(section, r"maxconn \d+", f"maxconn {door.max_connections}")
            return _replaced(section._replace(text=text), r"(stats socket /.*) mode 666", r"\2 mode 600")
        case "defaults":
            return _defaults(section, door)
        case head if head == FRONTEND:
            return _frontend(section, door, address)
        case "backend default_backend":  # No application is deployed. Ray would answer 404.
            return "    http-request deny deny_status 503\n"
        case head if head.startswith("backend "):
            return section.text
        case head:
            raise UnexpectedConfiguration(f"there is a section '{head}'")


def _defaults(section: Section, door: FrontDoor) -> str:
    text = _replaced(section, r"timeout client \d+s", f"timeout client {door.inactivity_timeout_s}s")
    # With `splice`, HAProxy does not notice that a client has left if its body came after its head.
    dropped = r"errorfile .*|timeout http-request .*|option splice-\w+"
    text = re.sub(rf"^\s*({dropped})\n", "", text, flags=re.MULTILINE)
    lines = (
        # Otherwise HAProxy closes the connection of the client without an answer when a replica ends.
        "option http-server-close",
        # There is no time limit for an answer, so the node of the replica is asked if it is still there.
        "option srvtcpka",
        f"srvtcpka-idle {SILENT_S}s",
        f"srvtcpka-intvl {PROBE_S}s",
        f"srvtcpka-cnt {NUM_PROBES}",
        f"timeout http-request {door.request_timeout_s}s",  # for the head
        *(f"errorfile {error.file} {door.errors}/{error.file}.http" for error in OWN_ERRORS),
    )
    return text + _indented(lines)


def _frontend(section: Section, door: FrontDoor, address: str) -> str:
    _, _, text = section.text.partition("\n")
    bound = door.max_connections_per_address
    lines = [
        f"bind {address}",
        # One connection of HTTP/2 would hold a hundred requests.
        "option disable-h2-upgrade",
        # The owner of an IPv6 network can choose the last 64 bits of an address, so only the others count.
        "stick-table type ipv6 size 100k expire 10m store conn_cur",
        "tcp-request connection track-sc0 src,ipmask(32,64)",
        # Over the bound a request gets an error. Far over it the connection is rejected without an answer.
        f"tcp-request connection reject if {{ sc0_conn_cur gt {bound + bound // 4} }}",
        f"http-request deny deny_status 429 if {{ sc0_conn_cur gt {bound} }}",
        # Without this rule, the ingress replica's HTTP server would answer such requests in another form. An
        # upgrade to another protocol is ignored.
        f"http-request deny deny_status 405 unless {{ method {METHODS} }}",
        "http-request deny deny_status 400 unless { path -m beg / }",
        "http-request del-header Upgrade",
        # Serve's own paths are only for its health checks, which do not go through this frontend.
        "http-request deny deny_status 404 if { path,url_dec -m beg /-/ }",
        # The ingress reads the client's address from this header, so the client must not set it.
        "http-request set-header X-Forwarded-For %[src]",
        "http-after-response set-header X-Request-Id %[uuid()] unless { res.hdr(X-Request-Id) -m found }",
    ]
    if door.max_request_bytes is not None:
        too_large = f"{{ req.hdr_val(content-length) gt {door.max_request_bytes} }}"
        # The ingress refuses files that are too large, before it reads them.
        lines.append(f"http-request deny deny_status 413 if {too_large} !{{ path {UPLOAD_PATH} }}")
    # This bounds the time for the body, or for as much of it as fits into HAProxy's buffer.
    lines.append(f"http-request wait-for-body time {door.request_timeout_s}s")
    return _indented(lines) + text


def _indented(lines: Iterable[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)


def _replaced(section: Section, pattern: str, replacement: str) -> str:
    """Returns the section's text with exactly one replacement. Group 1 is the indentation."""
    text, count = re.subn(rf"^(\s*){pattern}(?=\s)", rf"\g<1>{replacement}", section.text, flags=re.MULTILINE)
    if count != 1:
        raise UnexpectedConfiguration(f"'{section.head}' has {count} times '{pattern}'")
    return text


def _sections(text: str) -> list[Section]:
    """Returns the sections. Ray indents all lines of a section except its head."""
    sections: list[Section] = []
    for line in filter(str.strip, text.splitlines()):
        if not line[0].isspace():
            sections.append(Section(" ".join(line.split()), ""))
        elif sections:
            sections[-1] = sections[-1]._replace(text=f"{sections[-1].text}{line}\n")
        else:
            raise UnexpectedConfiguration(f"'{line.strip()}' comes before any section")
    heads = [section.head for section in sections]
    for head in ("global", "defaults", FRONTEND):
        if heads.count(head) != 1:
            raise UnexpectedConfiguration(f"there are {heads.count(head)} sections '{head}'")
    return sections

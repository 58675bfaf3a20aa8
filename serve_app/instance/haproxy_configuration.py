"""The configuration that Ray writes for HAProxy is changed here, so that strangers can send it anything.

    global      connections bounded; the admin socket for its owner only
    defaults    a request's head and the start of its body in time; answers of HAProxy's own in our form, but
                for the one to what is not HTTP at all, which HAProxy gives in HTML whatever it is told; no
                splicing: HAProxy would not see that a client has gone away whose body came in another packet
                than the head
    frontend    of the API: at `http.host`; connections per address bounded; bodies that are too large refused
    the rest    the metrics and the status page are gone: Ray has the same figures, and asks for a token

Everything that Ray's template may contain is known here, and a configuration with anything else is refused: a
port that a later version of Ray opens is not opened by accident.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

RETRY_AFTER_S = 2
CLOSED_SECTIONS = ("frontend prometheus", "listen stats")
METHODS = "GET HEAD POST PUT PATCH DELETE OPTIONS"
BIND = re.compile(r"^\s*bind (\S+):(\d+)$")


class UnexpectedConfiguration(Exception):
    """It is not what Ray is known to write; the message says where."""


class FrontDoor(NamedTuple):
    host: str | None  # None: as Serve says
    max_connections: int
    max_connections_per_address: int
    request_timeout_s: int
    inactivity_timeout_s: int
    max_request_bytes: int | None  # None: the ingress alone knows
    errors: Path


class Section(NamedTuple):
    head: str
    text: str


class OwnError(NamedTuple):
    """An answer that HAProxy gives by itself, when it would give that of `file` in HTML."""

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
    "the service cannot be reached at the moment; try again",
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
        "the body is larger than any that is taken",
    ),
    OwnError(
        429,
        "429 Too Many Requests",
        "rate_limit_error",
        "rate_limited",
        "too many connections from this address",
        RETRY_AFTER_S,
    ),
    OwnError(500, "500 Internal Server Error", "server_error", "internal_error", "internal error"),
    OwnError(502, *UNAVAILABLE),
    OwnError(503, *UNAVAILABLE),
    OwnError(504, *UNAVAILABLE),
)


def mended(text: str, door: FrontDoor) -> str:
    """Ray's configuration, changed.

    Raises: UnexpectedConfiguration.
    """
    sections = [section for section in _sections(text) if section.head not in CLOSED_SECTIONS]
    result = "".join(f"{section.head}\n{_mended(section, door)}" for section in sections)
    _require_one_door(result)
    return result


def error_files(door: FrontDoor) -> dict[str, bytes]:
    """By their names in `door.errors`, the whole answers."""
    return {f"{error.file}.http": _answer(error, door) for error in OWN_ERRORS}


def _answer(error: OwnError, door: FrontDoor) -> bytes:
    message = error.message
    if error.file == 413 and door.max_request_bytes:
        message = f"the body is over {door.max_request_bytes} bytes"
    content = {"type": error.type, "code": error.code, "message": message, "param": None}
    body = json.dumps({"error": content}, separators=(",", ":")).encode()
    lines = [f"HTTP/1.1 {error.status}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    if error.retry_after_s is not None:
        lines.append(f"Retry-After: {error.retry_after_s}")
    if error.file in (400, 408):  # What else this client has sent is not to be read as a request.
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _mended(section: Section, door: FrontDoor) -> str:
    match section.head:
        case "global":
            text = _replaced(section, r"maxconn \d+", f"maxconn {door.max_connections}")
            return _replaced(section._replace(text=text), r"(stats socket /.*) mode 666", r"\2 mode 600")
        case "defaults":
            return _defaults(section, door)
        case "frontend http_frontend":
            return _frontend(section, door)
        case "backend default_backend":  # No application is deployed: Ray would answer 404.
            return "    http-request deny deny_status 503\n"
        case head if head.startswith("backend "):
            return section.text
        case head:
            raise UnexpectedConfiguration(f"there is a section '{head}'")


def _defaults(section: Section, door: FrontDoor) -> str:
    text = _replaced(section, r"timeout client \d+s", f"timeout client {door.inactivity_timeout_s}s")
    # With `splice`, HAProxy does not see that a client has left whose body came after its head.
    dropped = r"errorfile .*|timeout http-request .*|option splice-\w+"
    text = re.sub(rf"^\s*({dropped})\n", "", text, flags=re.MULTILINE)
    lines = (
        f"timeout http-request {door.request_timeout_s}s",  # for the head
        *(f"errorfile {error.file} {door.errors}/{error.file}.http" for error in OWN_ERRORS),
    )
    return text + _indented(lines)


def _frontend(section: Section, door: FrontDoor) -> str:
    bind, _, text = section.text.partition("\n")
    if (match := BIND.match(bind)) is None:
        raise UnexpectedConfiguration(f"'{section.head}' begins with '{bind.strip()}'")
    host = match[1] if door.host is None else f"[{door.host}]" if ":" in door.host else door.host
    bound = door.max_connections_per_address
    lines = [
        f"bind {host}:{match[2]}",
        # One connection of HTTP/2 would hold a hundred requests.
        "option disable-h2-upgrade",
        # A network's holder has as many addresses of IPv6 as they like, in the last 64 bits.
        "stick-table type ipv6 size 100k expire 10m store conn_cur",
        "tcp-request connection track-sc0 src,ipmask(32,64)",
        # Over the bound there is an answer; far over it not even that.
        f"tcp-request connection reject if {{ sc0_conn_cur gt {bound + bound // 4} }}",
        f"http-request deny deny_status 429 if {{ sc0_conn_cur gt {bound} }}",
        # To such requests a server's own answer would not have our form. A client that asks for another
        # protocol is answered in this one.
        f"http-request deny deny_status 405 unless {{ method {METHODS} }}",
        "http-request deny deny_status 400 unless { path -m beg / }",
        "http-request del-header Upgrade",
        # Serve's own paths are for its health checks, which do not come this way.
        "http-request deny deny_status 404 if { path,url_dec -m beg /-/ }",
        # The ingress takes this header for the client's address, so it may not come from the client.
        "http-request set-header X-Forwarded-For %[src]",
        "http-after-response set-header X-Request-Id %[uuid()] unless { res.hdr(X-Request-Id) -m found }",
    ]
    if door.max_request_bytes is not None:
        too_large = f"{{ req.hdr_val(content-length) gt {door.max_request_bytes} }}"
        lines.append(f"http-request deny deny_status 413 if {too_large}")
    # Then for the body, or as much of it as HAProxy has room for.
    lines.append(f"http-request wait-for-body time {door.request_timeout_s}s")
    return _indented(lines) + text


def _indented(lines: Iterable[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)


def _replaced(section: Section, pattern: str, replacement: str) -> str:
    """The section's text with exactly one change; group 1 is what stands before the pattern."""
    text, count = re.subn(rf"^(\s*){pattern}(?=\s)", rf"\g<1>{replacement}", section.text, flags=re.MULTILINE)
    if count != 1:
        raise UnexpectedConfiguration(f"'{section.head}' has {count} times '{pattern}'")
    return text


def _sections(text: str) -> list[Section]:
    """Ray indents what belongs to a section, and nothing else."""
    sections: list[Section] = []
    for line in filter(str.strip, text.splitlines()):
        if not line[0].isspace():
            sections.append(Section(" ".join(line.split()), ""))
        elif sections:
            sections[-1] = sections[-1]._replace(text=f"{sections[-1].text}{line}\n")
        else:
            raise UnexpectedConfiguration(f"'{line.strip()}' comes before any section")
    heads = [section.head for section in sections]
    for head in ("global", "defaults", "frontend http_frontend"):
        if heads.count(head) != 1:
            raise UnexpectedConfiguration(f"there are {heads.count(head)} sections '{head}'")
    return sections


def _require_one_door(text: str) -> None:
    doors = re.findall(r"^\s*bind\s.*$", text, re.MULTILINE)
    if len(doors) != 1:
        raise UnexpectedConfiguration(f"it listens at {[door.strip() for door in doors]}")
    sockets = re.findall(r"^\s*stats socket (\S+)", text, re.MULTILINE)
    if not all(socket.startswith("/") for socket in sockets):
        raise UnexpectedConfiguration(f"its administration listens at {sockets}")

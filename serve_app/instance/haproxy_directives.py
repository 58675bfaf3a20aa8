"""Refuses a configuration of HAProxy that could listen anywhere but at the API's address.

This is the last check before HAProxy starts. It reads the finished configuration, whatever
`instance.haproxy_configuration` has changed in it, and knows every directive that Ray's template has. HAProxy
has more directives that listen (`bind`, `dgram-bind`, `peer`, `stats socket`), it accepts a section's head
that is indented, and it accepts quotes around any word. Therefore everything that is not known is refused.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address

DIRECTIVES = frozenset(
    {
        "acl",
        "balance",
        "bind",
        "close-spread-time",
        "default-server",
        "default_backend",
        "errorfile",
        "hard-stop-after",
        "http-after-response",
        "http-check",
        "http-request",
        "http-reuse",
        "load-server-state-from-file",
        "log",
        "log-format-sd",
        "lua-load-per-thread",
        "maxconn",
        "mode",
        "nbthread",
        "no",
        "option",
        "retries",
        "retry-on",
        "server",
        "server-state-base",
        "server-state-file",
        "srvtcpka-cnt",
        "srvtcpka-idle",
        "srvtcpka-intvl",
        "stats",
        "stick-table",
        "tcp-request",
        "timeout",
        "tune.bufsize",
        "unique-id-format",
        "use-server",
        "use_backend",
    }
)
"""The first words of all lines that Ray's template can have in the sections that are kept, and of our own."""
BIND = re.compile(r"\s*bind (\*|[\w.-]+|\[[\w.:]+\]|[\da-fA-F:.]+):(\d+)")


class UnexpectedConfiguration(Exception):
    """A configuration that is not what Ray is known to write. The message says where."""


def address_of(line: str, section: str) -> tuple[str, int]:
    """Returns the host and the port of a `bind` line of the form that Ray writes: one address, no options.

    Raises: UnexpectedConfiguration.
    """
    match = BIND.fullmatch(line)
    if match is None or not _is_host(match[1]):
        raise UnexpectedConfiguration(f"'{section}' begins with '{line.strip()}'")
    return match[1], int(match[2])


def require_one_address(text: str, address: str) -> None:
    """Checks that the configuration listens at `address` and nowhere else, apart from a Unix socket.

    Raises: UnexpectedConfiguration.
    """
    listening = []
    for words in _directives(text):
        if words[0] not in DIRECTIVES:
            raise UnexpectedConfiguration(f"there is a directive '{words[0]}'")
        if words[0] == "bind":
            listening.append(" ".join(words[1:]))
        elif words[0] == "stats" and not _is_harmless(words):
            raise UnexpectedConfiguration(f"its administration is at '{' '.join(words[1:3])}'")
    if listening != [address]:
        raise UnexpectedConfiguration(f"it listens at {listening} and not only at '{address}'")


def _directives(text: str) -> Iterator[list[str]]:
    """Yields the words of each line of a section, without its head and without comments."""
    for line in text.splitlines():
        words = line.split()
        if words and line[0].isspace() and not words[0].startswith("#"):
            yield words


def _is_harmless(stats: list[str]) -> bool:
    """Returns True if a `stats` line sets a timeout or makes a socket that is a file."""
    kind, value = (*stats[1:3], "", "")[:2]
    return kind == "timeout" or (kind == "socket" and value.startswith("/"))


def _is_host(text: str) -> bool:
    """Returns True for `*`, the name of a host, or an address. A name has no colons."""
    if ":" not in text:
        return True
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True

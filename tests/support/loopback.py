"""Runs a command where there is no network but loopback: `python -m tests.support.loopback COMMAND...`.

The command gets a network namespace of its own, with nothing in it but loopback. Root may make one. Another
user may if the machine allows user namespaces. If not, the command runs with the network of the machine, and
the variable REFUSED has the reason. `require_loopback` then skips a test, but for root it fails.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

import pytest

NEW_NETWORK, NEW_USER = 0x40000000, 0x10000000  # CLONE_NEWNET, CLONE_NEWUSER
GET_FLAGS, SET_FLAGS, IS_UP = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
REFUSED = "LOOPBACK_REFUSED"
ELSEWHERE = ("192.0.2.1", 9)
"""An address that RFC 5737 reserves for documents. Connecting a UDP socket to it sends nothing."""
COUNTS, COUNTS_6 = Path("/proc/net/snmp"), Path("/proc/net/snmp6")


def has_network() -> bool:
    """True if this process has a route to other machines."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError:
            return False
    return True


def failed_attempts() -> int:
    """The number of packets and connections to other machines for which the kernel had no route.

    Every attempt of a process in a namespace with loopback only is one of them.
    """
    names, values = (line.split() for line in COUNTS.read_text().splitlines() if line.startswith("Ip:"))
    counts_6 = dict(line.split() for line in COUNTS_6.read_text().splitlines()) if COUNTS_6.exists() else {}
    return int(values[names.index("OutNoRoutes")]) + int(counts_6.get("Ip6OutNoRoutes", 0))


def leave_the_network() -> None:
    """Moves this process into a new network namespace. Raises: OSError: this user may not."""
    user, group = os.getuid(), os.getgid()
    _unshare(NEW_NETWORK if user == 0 else NEW_NETWORK | NEW_USER)
    if user != 0:
        # Without these the processes would run as the user `nobody`.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        (_, flags) = struct.unpack("16sh14x", fcntl.ioctl(control, GET_FLAGS, request))
        fcntl.ioctl(control, SET_FLAGS, struct.pack("16sh14x", b"lo", flags | IS_UP))


def _unshare(flags: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def require_loopback() -> None:
    """Skips the calling test if there is a network. It fails if root could not leave the network."""
    if not has_network():
        return
    reason = os.environ.get(REFUSED)
    if reason is not None and os.getuid() == 0:
        pytest.fail(f"root could not leave the network: {reason}")
    pytest.skip(reason or "`make test` runs this without a network")


def main() -> None:
    try:
        leave_the_network()
    except OSError as error:
        os.environ[REFUSED] = str(error)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()

"""Finds every TCP port at which processes listen, and tries it without credentials.

A port is tried with every protocol that the processes of an instance use. It must answer with one of a few
refusals that are known here. A port that answers anything else, or nothing, is an open door.
"""

import http.client
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import NamedTuple

import grpc
import psutil

TIMEOUT_S = 3.0
RAY_METHODS = (
    "ray.rpc.ActorInfoGcsService/GetAllActorInfo",
    "ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "ray.rpc.InternalKVGcsService/InternalKVKeys",
    "ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "ray.rpc.LogService/ListLogs",
    "ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "ray.rpc.NodeManagerService/GetNodeStats",
    "ray.rpc.ObjectManagerService/Pull",
    "ray.rpc.RayletDriver/ClusterInfo",
    "ray.rpc.ReporterService/ReportOCMetrics",
    "ray.serve.ASGIService/HandleRequest",
)
HTTP_PATHS = (
    "/metrics",
    "/v1/models",
    "/api/version",
    "/api/jobs/",
    "/api/v0/logs",
    "/nodes?view=summary",
    "/state",
)
"""The paths that are tried, without `/`, at which Ray's dashboard and the API show a page to everybody."""
NO_GRPC = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN"}
REFUSED_BY_GRPC = {"UNAUTHENTICATED", "UNIMPLEMENTED"}


class Door(NamedTuple):
    address: str
    port: int
    command: str


class Refusal(StrEnum):
    """The answer of a door to a stranger. `FIGURES` and `SILENT` are refusals only if they are expected."""

    CERTIFICATE = "a TLS server that wants a certificate"
    TOKEN = "a gRPC or an HTTP server that wants a token"
    FIGURES = "Prometheus' figures, and nothing else"
    SILENT = "no answer in any language"
    OPEN = "an answer"


def doors_of(processes: Iterable[psutil.Process]) -> set[Door]:
    found = set()
    for process in processes:
        try:
            command = " ".join(process.cmdline())
            found |= {
                Door(it.laddr.ip.removeprefix("::ffff:"), it.laddr.port, command)
                for it in process.net_connections("inet")
                if it.status == psutil.CONN_LISTEN
            }
        except psutil.NoSuchProcess:
            continue
    return found


def what_strangers_get(doors: Iterable[Door]) -> dict[Door, Refusal]:
    """The answer of each door. This process may ask, since TCP does not tell the users of a machine apart."""
    asked = list(doors)
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(asked, pool.map(_what_a_stranger_gets, asked), strict=True))


def _what_a_stranger_gets(door: Door) -> Refusal:
    if _wants_a_certificate(door.port):
        return Refusal.CERTIFICATE
    codes = _grpc_codes(door.port)
    if codes.isdisjoint(NO_GRPC):
        return Refusal.TOKEN if "UNAUTHENTICATED" in codes <= REFUSED_BY_GRPC else Refusal.OPEN
    answers = {path: _http(door.port, path) for path in HTTP_PATHS}
    statuses = {answer.status for answer in answers.values()}
    if statuses == {None}:
        return Refusal.SILENT
    if statuses & {401, 403} and statuses <= {401, 403, 404, 405}:
        return Refusal.TOKEN
    if all(answer.status in (404, 405) or answer.text.startswith("# HELP ") for answer in answers.values()):
        return Refusal.FIGURES
    return Refusal.OPEN


def figures(port: int) -> str:
    return _http(port, "/metrics").text


def _wants_a_certificate(port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            secure.recv(100)
    except ssl.SSLError as error:
        return "CERTIFICATE" in (error.reason or "").upper()
    except OSError:
        return False
    return False


def _grpc_codes(port: int) -> set[str]:
    """The gRPC codes of a method of each service. A port without gRPC gives one of NO_GRPC."""
    codes = set()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in RAY_METHODS:
            try:
                channel.unary_unary(f"/{method}")(b"", timeout=TIMEOUT_S)
                codes.add("OK")
            except grpc.RpcError as error:
                codes.add(error.code().name)
                if codes & NO_GRPC:
                    break
    return codes


class _Answer(NamedTuple):
    status: int | None
    text: str


def _http(port: int, path: str) -> _Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return _Answer(answer.status, answer.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        return _Answer(None, "")
    finally:
        connection.close()

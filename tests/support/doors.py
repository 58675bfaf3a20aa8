"""Every TCP port at which processes listen, and what it says to somebody who has no credentials.

A port is asked in every language that the processes of an instance speak. What it says must be one of a few
refusals that are known here; a port that says anything else, or nothing, is an open door.
"""

import http.client
import socket
import ssl
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import grpc
import psutil

TIMEOUT_S = 5.0
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
    "/",
    "/v1/models",
    "/api/version",
    "/api/v0/logs",
    "/nodes?view=summary",
    "/api/jobs/",
    "/state",
)
FIGURES = "/metrics"


class Door(NamedTuple):
    address: str
    port: int
    command: str


class Refusal(StrEnum):
    """Why a stranger gets nothing at a door. `FIGURES` and `SILENT` are no refusals by themselves."""

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
                Door(it.laddr.ip, it.laddr.port, command)
                for it in process.net_connections("inet")
                if it.status == psutil.CONN_LISTEN
            }
        except psutil.NoSuchProcess:
            continue
    return found


def what_a_stranger_gets(port: int) -> Refusal:
    """Users of one machine are all alike to TCP: it does not matter who asks."""
    if _wants_a_certificate(port):
        return Refusal.CERTIFICATE
    if (codes := set(_grpc_codes(port))) & {"UNAUTHENTICATED", "OK", "INVALID_ARGUMENT", "INTERNAL"}:
        return Refusal.TOKEN if codes <= {"UNAUTHENTICATED", "UNIMPLEMENTED"} else Refusal.OPEN
    statuses = {path: _http_status(port, path) for path in (*HTTP_PATHS, FIGURES)}
    if all(status is None for status in statuses.values()):
        return Refusal.SILENT
    if all(status in (401, 403, 404, 405) for status in statuses.values()):
        return Refusal.TOKEN if {401, 403} & set(statuses.values()) else Refusal.OPEN
    if _is_all_figures(port):
        return Refusal.FIGURES
    return Refusal.OPEN


def figures(port: int) -> str:
    return _http(port, FIGURES)[1]


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


def _grpc_codes(port: int) -> list[str]:
    """What a method of each service says; UNAVAILABLE where nobody speaks gRPC."""
    codes = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in RAY_METHODS:
            try:
                channel.unary_unary(f"/{method}")(b"", timeout=TIMEOUT_S)
                codes.append("OK")
            except grpc.RpcError as error:
                codes.append(error.code().name)
                if codes[-1] in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    return codes
    return codes


def _http(port: int, path: str) -> tuple[int | None, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None, ""
    finally:
        connection.close()


def _http_status(port: int, path: str) -> int | None:
    return _http(port, path)[0]


def _is_all_figures(port: int) -> bool:
    """Prometheus' own server answers every path with the figures."""
    answers = [_http(port, path) for path in ("/", FIGURES)]
    return all(status == 404 or text.startswith("# HELP ") for status, text in answers)

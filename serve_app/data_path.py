"""How requests travel through Ray Serve: HAProxy in front of the ingress replicas, gRPC between deployments.

    client -> HAProxy -> uvicorn in an ingress replica -> gRPC -> a model replica, and every token back

By default a Python proxy stands where HAProxy does, and every token is a message of Ray's between actors.
Read by Serve's processes from their environment, which is that of the Ray processes.
"""

from pathlib import Path

FAST = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1"}


def data_path_environment(directory: Path, metrics_port: int) -> dict[str, str]:
    """Of a head that shares its machine: its own files in `directory`, its own port, few threads."""
    return {
        **FAST,
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(directory / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # Nobody else sends requests to a replica that is to end: no load balancer must be waited for.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    }

"""Finds the log files of an instance by their subject, and reads them while they grow."""

import time
from collections.abc import Iterator
from pathlib import Path

from serve_app.instance import ray_head
from serve_app.instance.processes import POLL_INTERVAL_S

TAIL_LINES = 40
GROUPS = "storage, ray, serve, or part of a deployment's name"


def log_files(home: Path, name: str | None) -> list[Path]:
    """Returns the log files of `name`. Ray's own files are those of its latest session.

    `name` is `storage`, `ray`, `serve` (controller, proxy) or a part of a deployment's name. None: the most
    important files.
    """
    session = ray_head.session_logs(home)
    storage = [home / "storage" / "weed.log"]
    head = [home / "ray.log", *(session / file for file in ("gcs_server.out", "raylet.out", "dashboard.log"))]
    control = sorted((session / "serve").glob("controller_*.log")) + sorted(
        (session / "serve").glob("proxy_*.log")
    )
    replicas = sorted((session / "serve").glob("replica_*.log"))
    if name is None:
        found = [*storage, head[0], *control, *replicas]
    elif name in (groups := {"storage": storage, "ray": head, "serve": control}):
        found = groups[name]
    else:
        # The output of an engine, with vLLM's own log, is in its worker's files and not in Serve's files.
        workers = sorted(session.glob("worker-*.out")) + sorted(session.glob("worker-*.err"))
        wanted = [path for path in replicas if name.lower() in path.name.lower()]
        found = wanted + ([path for path in workers if _mentions(path, name)] if wanted else [])
    return [path for path in found if path.is_file()]


def tail(path: Path, lines: int = TAIL_LINES) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-lines:]


def follow(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """Yields the lines that are written from now on. It never ends."""
    files = {path: path.open(errors="replace") for path in paths}
    for file in files.values():
        file.seek(0, 2)
    while True:
        lines = [(path, line) for path, file in files.items() for line in file]
        yield from ((path, line.rstrip("\n")) for path, line in lines)
        if not lines:
            time.sleep(POLL_INTERVAL_S)


def _mentions(path: Path, name: str) -> bool:
    return any(name.lower() in line.lower() for line in tail(path, 200))

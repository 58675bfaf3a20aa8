"""An instance that a benchmark has for itself, and keys and clients for it."""

import logging
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from registry.keys import ApiKeys
from serve_app.instance.instance import Instance
from serve_app.instance.ports import free_ports


@contextmanager
def temporary_instance(config: str = "local", beside: Sequence[dict[str, Any]] = ()) -> Iterator[Instance]:
    """An instance that is not up yet. At the end of the block, and at SIGTERM, it is stopped and deleted."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # vLLM and Ray configure logs that show its requests
    with tempfile.TemporaryDirectory(prefix="tiger-bench-", ignore_cleanup_errors=True) as home:
        http_port, dashboard_port = free_ports(2)
        instance = Instance(Path(home), config, http_port, dashboard_port, beside)
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            yield instance
        finally:
            instance.down(quiet)
            signal.signal(signal.SIGTERM, before)


def quiet(line: str) -> None:
    """Ignore a line that `up` or `down` reports: it is no part of a result."""


def new_key(instance: Instance, user: str = "bench") -> str:
    return ApiKeys(instance.store()).create(user, "bench")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def client(instance: Instance, user: str = "bench") -> httpx.Client:
    headers = bearer(new_key(instance, user))
    return httpx.Client(base_url=instance.url, headers=headers, timeout=600, trust_env=False)

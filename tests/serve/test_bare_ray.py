"""The commands of docs/operations.md for a Ray that somebody starts by hand, on a head with one CPU.

The Ingress takes this CPU. The replica of the base model finds none, so no engine starts.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from serve_app.instance import haproxy, ray_head
from serve_app.instance.ports import free_ports
from serve_app.instance.processes import MARKER, marked_processes, stop_processes
from serve_app.instance.seaweedfs import ObjectServer, stop
from serve_app.settings import CONFIG_DIRECTORY
from tests.support.documents import blocks
from tests.support.storage import free_port
from tests.support.waiting import wait_until

DOCUMENT = "docs/operations.md"
BEGIN = 'eval "$(tiger environment)"'
RAY = """\
#!/bin/sh
# The ports and the directory of a Ray that shares the machine with others.
case "$1" in start) exec {ray} "$@" {options} ;; *) exec {ray} "$@" ;; esac
"""
TIMEOUT_S = 120
GRACE_S = 1


class BareRay:
    """A home directory with a shell in which the commands of the document run, one after the other."""

    def __init__(self, root: Path, http_port: int, dashboard_port: int, endpoint_url: str) -> None:
        self.root = root
        self.url = f"http://127.0.0.1:{http_port}"
        self.dashboard_url = f"http://127.0.0.1:{dashboard_port}"
        self.config = root / "settings.yaml"
        self._write_settings(http_port)
        programs = root / "programs"
        programs.mkdir()
        self._write_ray(programs / "ray", dashboard_port)
        own = Path(sys.executable).parent
        paths = haproxy.environment(root / "h")
        self.environment = {
            **{name: value for name, value in paths.items() if name not in haproxy.DATA_PATH},
            **{name: str(free_port()) for name in ray_head.PORT_VARIABLES},
            MARKER: str(root),
            "SPT_NOENV": "1",
            "HOME": str(root),
            "PATH": f"{programs}:{own}:{os.defpath}",
            "PYTHONPATH": str(CONFIG_DIRECTORY.parent),
            "RAY_DASHBOARD_ADDRESS": self.dashboard_url,
            "TIGER_CONFIG": str(self.config),
            "TIGER_STORAGE__ENDPOINT_URL": endpoint_url,
            "TIGER_STORAGE__BUCKET": "tests",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def _write_settings(self, http_port: int) -> None:
        settings: dict[str, Any] = yaml.safe_load((CONFIG_DIRECTORY / "local.yaml").read_text())
        settings["http"]["port"] = http_port
        settings["limits"] = {"max_requests_per_minute_per_user": 60}
        self.config.write_text(yaml.safe_dump(settings))

    def _write_ray(self, path: Path, dashboard_port: int) -> None:
        options = [
            *("--num-cpus", "1", "--node-ip-address", "127.0.0.1", "--dashboard-port", str(dashboard_port)),
            *("--object-store-memory", str(80 * 2**20), "--temp-dir", str(self.root / "r")),
            "--disable-usage-stats",
        ]
        for option, port in zip(ray_head.PORT_OPTIONS, free_ports(len(ray_head.PORT_OPTIONS)), strict=True):
            options += [option, str(port)]
        ray = shlex.quote(str(Path(sys.executable).with_name("ray")))
        path.write_text(RAY.format(ray=ray, options=shlex.join(options)))
        path.chmod(0o755)

    def shell(self, command: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["sh", "-ec", command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def keep_variables(self, command: str) -> None:
        """Run a command whose variables later commands have, as in one shell."""
        lines = self.shell(f"{command}\nenv -0").stdout.split("\0")
        self.environment |= dict(line.split("=", 1) for line in lines if line)

    @property
    def readiness(self) -> str:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False).text
        return ""


@pytest.fixture
def bare_ray() -> Iterator[BareRay]:
    with tempfile.TemporaryDirectory(prefix="tg-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        objects = ObjectServer(root / "objects", free_port())
        storage = objects.start()
        http_port, dashboard_port = free_ports(2)
        bare = BareRay(root, http_port, dashboard_port, objects.endpoint_url)
        bare.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(objects.credentials_path)
        try:
            yield bare
        finally:
            stop_processes(marked_processes(root), GRACE_S)
            stop(storage.pid)
            storage.wait()


def test_documented_commands_serve_on_a_bare_ray(bare_ray: BareRay) -> None:
    (block,) = [each for each in blocks() if each.document == DOCUMENT and each.code.startswith(BEGIN)]
    variables, token, start, deploy, keys = block.code.splitlines()
    bare_ray.keep_variables(variables)
    bare_ray.shell(token.partition("#")[0])
    bare_ray.shell(start.partition("#")[0])
    refused = httpx.get(f"{bare_ray.dashboard_url}/api/serve/applications/", trust_env=False, timeout=30)
    assert refused.status_code == 401, "everybody could deploy programs"

    told = bare_ray.root / "told"
    with (
        told.open("w") as output,
        subprocess.Popen(
            ["sh", "-ec", f"exec {deploy}"],
            env=bare_ray.environment,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            wait_until(lambda: "it waits for" in bare_ray.readiness, TIMEOUT_S)
        finally:
            process.terminate()
    lines = told.read_text()
    assert "warning: the nodes have 1 CPUs, and the replicas reserve 3" in lines.splitlines()[1], lines

    key = bare_ray.shell(keys).stdout.strip()
    models = httpx.get(
        f"{bare_ray.url}/v1/models", headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30
    )
    assert [model["id"] for model in models.json()] == ["smollm2-135m"]
    assert models.headers["x-ratelimit-limit-requests"] == "60"
    assert any("haproxy" in each.name() for each in marked_processes(bare_ray.root) if is_alive(each))


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running()
    return False

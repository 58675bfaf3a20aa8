"""The measured system: an instance of our own, and the bare handler in the same Ray Serve."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench.control.accounts import Accounts
from bench.temporary_instance import quiet, temporary_instance
from serve_app.instance.instance import Instance
from serve_app.instance.processes import wait_until
from serve_app.settings import CONFIG_DIRECTORY

BARE_APPLICATION = "bare"
BARE_PREFIX = "/bare"
BARE_TIMEOUT_S = 120
MANY = 10**9
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Ground:
    """An instance with the bare handler. `directory` has the bodies with which the bare handler answers."""

    instance: Instance
    directory: Path

    @property
    def url(self) -> str:
        return self.instance.url

    def up(self) -> None:
        """Start the instance; returns when both our application and the bare one answer."""
        self.instance.up(quiet)
        probe = self.url + self.bare("probe", b"{}")
        if not wait_until(lambda: _answers(probe), BARE_TIMEOUT_S):
            raise RuntimeError(f"{probe} does not answer")

    def bare(self, name: str, body: bytes) -> str:
        """The path at which the bare handler answers with `body`. A name may be used only once."""
        (self.directory / name).write_bytes(body)
        return f"{BARE_PREFIX}/{name}"

    def accounts(self) -> Accounts:
        settings = self.instance.settings
        return Accounts(self.instance.store(), settings.base_model(settings.default_model))


@contextmanager
def ground() -> Iterator[Ground]:
    """A ground that exists during the block, and is not up yet."""
    with tempfile.TemporaryDirectory(prefix="tiger-control-") as name:
        directory = Path(name)
        config = directory / "config.yaml"
        config.write_text(yaml.safe_dump(_config()))
        with temporary_instance(str(config), [_bare(config, directory)]) as instance:
            yield Ground(instance, directory)


def _config() -> dict[str, Any]:
    """The local configuration with such high limits that requests are counted, but never refused."""
    config: dict[str, Any] = yaml.safe_load((CONFIG_DIRECTORY / "local.yaml").read_text())
    limits = config.get("limits", {}) | {"max_requests_per_minute_per_user": MANY}
    return config | {"limits": limits}


def _bare(config: Path, directory: Path) -> dict[str, Any]:
    """The Serve config of the application with the bare handler."""
    return {
        "name": BARE_APPLICATION,
        "route_prefix": BARE_PREFIX,
        "import_path": "bench.control.bare:build_app",
        "args": {"config": str(config), "directory": str(directory)},
        "runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT)}},
    }


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False

"""Runs clients of other projects, each in a process of its own: the scripts of tests/clients."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.system import CALL_TIMEOUT_S, Client, System

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "tests" / "clients"
CLIENTS_PYTHON = ROOT / ".venv-clients" / "bin" / "python"
"""The Python that has the packages of `requirements/clients.txt`."""


def outside(
    script: str, system: System, client: Client, model: str, *more: str, python: Path = CLIENTS_PYTHON
) -> Any:
    """Run a script with the base URL, a key, the model and `more`; returns the JSON that it prints last."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = subprocess.run(
        [python, CLIENTS / script, f"{system.url}/openai/v1", client.key, model, *more],
        env=environment,
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT_S,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def own_python() -> Path:
    """The Python of the service's environment, for a client that is installed there."""
    return Path(sys.executable)

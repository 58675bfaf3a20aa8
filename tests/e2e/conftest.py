"""Other users who generate during a test."""

import secrets

import pytest

from tests.support.adapters import write_adapter
from tests.support.bystanders import publish
from tests.support.system import Client, System


@pytest.fixture(scope="session")
def speakers(system: System, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Client, str]]:
    """Two clients, each with a private model. The models have different weights."""
    found = []
    for sign in (1, -1):
        client = system.client(f"speaker-{secrets.token_hex(4)}")
        directory = tmp_path_factory.mktemp("speaker") / "adapter"
        publish(system, client, "Mine", write_adapter(directory, lambda b, sign=sign: b * sign))
        found.append((client, "mine@1"))
    return found

"""The surroundings of the `tiger` command."""

import os
from pathlib import Path

import pytest

from registry.layout import open_bucket
from registry.settings import StorageSettings
from registry.store import ObjectStore


@pytest.fixture
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home for this test, and no settings from outside."""
    for name in [name for name in os.environ if name.startswith("TIGER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TIGER_HOME", str(tmp_path / "home"))


@pytest.fixture
def cluster(storage_settings: StorageSettings, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The operator of a cluster: no instance here, storage from the environment. The service has run once."""
    for name in ("endpoint_url", "bucket", "prefix"):
        monkeypatch.setenv(f"TIGER_STORAGE__{name.upper()}", getattr(storage_settings, name))
    store = ObjectStore(storage_settings)
    open_bucket(store)
    return store

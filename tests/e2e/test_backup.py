"""A service on a restored bucket answers as before. Named to run early, while the bucket to copy is small."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from registry.settings import StorageSettings
from serve_app.instance.instance import Instance
from tests.support.adapters import write_adapter
from tests.support.bystanders import publish
from tests.support.commands import tiger
from tests.support.storage import free_port
from tests.support.system import Client, System

PROMPT = "What is your favourite colour?"


def use_bucket(system: System, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let further commands and instances use another bucket of the storage of `system`."""
    storage = system.instance.storage
    values = {"endpoint_url": storage.settings.endpoint_url, "bucket": bucket}
    assert values.keys() <= StorageSettings.model_fields.keys()
    for name, value in values.items():
        monkeypatch.setenv(f"TIGER_STORAGE__{name.upper()}", str(value))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(storage.credentials_path))


@contextmanager
def another_instance(system: System, home: Path) -> Iterator[Instance]:
    """An instance with one base model of `system`, because a second one would only take time to start."""
    settings = yaml.safe_load(Path(system.instance.config).read_text())
    settings["models"] = settings["models"][:1]
    config = home.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings))
    instance = Instance(home, str(config), free_port(), free_port())
    try:
        assert instance.up(lambda line: None) is None, "the restored bucket has keys"
        yield instance
    finally:
        instance.down(lambda line: None)


def test_restored_private_model_gives_the_same_answer_to_the_same_key(
    system: System, alice: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(system, alice, "Mine", write_adapter(tmp_path / "adapter", lambda b: b * 20))
    model, answer = alice.get("/v1/models/mine"), alice.greedy("mine", PROMPT)["message"]
    assert answer != alice.greedy("mine@0", PROMPT)["message"], "the adapter changes what the model says"
    place = str(tmp_path / "backup")
    made = tiger("backup", place, "--home", str(system.instance.home))
    assert made.exit_code == 0, made.output

    use_bucket(system, "restored", monkeypatch)
    restored = tiger("restore", place, "--home", str(tmp_path / "new"), "--config", system.instance.config)
    assert restored.exit_code == 0, restored.output
    with another_instance(system, tmp_path / "new") as instance:
        client = Client(instance.url, alice.user, alice.key)
        assert client.get("/v1/models/mine") == model
        assert client.greedy("mine", PROMPT)["message"] == answer
        assert client.get("/v1/keys")[0]["id"] == alice.get("/v1/keys")[0]["id"]

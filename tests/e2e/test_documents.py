"""The commands of the documents, run as they are printed but for the port, the key and the home."""

import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.documents import Block, blocks_to_run
from tests.support.system import CALL_TIMEOUT_S, Client, System

PRINTED_URL = "http://localhost:45678"


@dataclass(frozen=True)
class Reader:
    """Somebody who types what the documents show, in a directory with the environment of `make up`."""

    system: System
    key: str
    directory: Path

    def run(self, block: Block) -> str:
        """Run a block of commands, which must succeed; returns what it prints."""
        code = block.code.replace(PRINTED_URL, self.system.url)
        interpreter = {"sh": ["bash", "-e"], "python": [sys.executable]}[block.language]
        process = subprocess.run(
            [*interpreter, "-c", code],
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "TIGER_HOME": str(self.system.instance.home),
                "TIGER_API_KEY": self.key,
                "NO_PROXY": "localhost",
            },
            capture_output=True,
            text=True,
            timeout=CALL_TIMEOUT_S,
        )
        assert process.returncode == 0, process.stderr[-3000:]
        return process.stdout


@pytest.fixture
def reader(system: System, alice: Client, tmp_path: Path) -> Reader:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return Reader(system, alice.key, tmp_path)


def shape(value: Any) -> Any:
    """The keys of objects and the types of their values. What is equal in a list counts once."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        shapes = [shape(item) for item in value]
        return [found for index, found in enumerate(shapes) if found not in shapes[:index]]
    return "number" if type(value) in (int, float) else type(value).__name__


def shape_of_lines(text: str) -> Any:
    return shape([json.loads(line) for line in text.splitlines()])


def test_session_of_the_readme(reader: Reader) -> None:
    """The commands run one after another in one directory. The words of a model are not compared."""
    *requests, download, script, _ = blocks_to_run("README.md")
    for block in requests:
        assert shape_of_lines(reader.run(block)) == shape_of_lines(block.shown), block.code

    reader.run(download)
    (archive,) = reader.directory.glob("*.tar")
    with tarfile.open(archive) as files:
        assert {Path(name).name for name in files.getnames()} >= {
            "adapter_config.json",
            "adapter_model.safetensors",
        }

    seen, shown = reader.run(script).splitlines(), script.shown.splitlines()
    assert shown[0] == "['smollm2-135m', 'model42']"
    assert seen[0] == "['smollm2-135m', 'twin', 'model42']"
    for lines in (seen, shown):
        for line, start in zip(lines[1:], ("model42@1: ", "as it was: ", "{'fruit': "), strict=True):
            assert line.startswith(start)
        assert lines[3] in ("{'fruit': 'apple'}", "{'fruit': 'mango'}")


def test_move_from_openai_of_the_readme(reader: Reader) -> None:
    """The model learns its answer. Only the end of its name differs from what is shown."""
    *_, move = blocks_to_run("README.md")
    seen, shown = (re.sub(r"-[0-9a-f]{8}@", "-@", text) for text in (reader.run(move), move.shown))
    assert "-@" in shown
    assert seen == shown


def test_key_of_the_operations_manual(reader: Reader) -> None:
    create, audit = blocks_to_run("docs/operations.md")
    headers = {"Authorization": f"Bearer {reader.run(create).strip()}"}
    answer = httpx.get(f"{reader.system.url}/v1/keys", headers=headers, trust_env=False, timeout=30)
    (key,) = answer.json()
    assert key["name"] == "laptop" and key["expires"] is not None
    entries = [line.split()[2:] for line in reader.run(audit).splitlines()]
    assert ["operator", "alice", "create_key", f"key={key['id']}", "done", "-"] in entries


def test_error_of_the_api_manual(alice: Client) -> None:
    (example,) = blocks_to_run("docs/api.md")
    question = [{"role": "user", "content": "Name a fruit."}]
    answer = alice.post("/v1/generate_response", {"messages": question, "temperature": 3}, status=422)
    assert answer == json.loads(example.code)

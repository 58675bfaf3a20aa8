"""The real client of the hub, against a server on this machine that answers as the hub does."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serve_app.instance.model_hub import (
    HubUnreachable,
    HuggingFaceHub,
    RepositoryGated,
    RepositoryUnknown,
)
from serve_app.instance.ports import free_ports

COMMIT = "0123456789012345678901234567890123456789"
NAME = "maker/model"
FILES = {
    "config.json": 100,
    "model-00001-of-00002.safetensors": 7000,
    "model-00002-of-00002.safetensors": 3000,
    "pytorch_model.bin": 10000,
    "original/consolidated.00.pth": 10000,
    "README.md": 50,
}


@contextmanager
def hub(access: int = 200, error_code: str = "", dtype: str = "BF16") -> Iterator[str]:
    """A hub with one repository, whose `auth-check` gives this status; its URL."""
    description = {
        "_id": "1",
        "id": NAME,
        "sha": COMMIT,
        "safetensors": {"parameters": {dtype: 5000}, "total": 5000},
        "siblings": [{"rfilename": file, "size": size, "blobId": "b"} for file, size in FILES.items()],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.path.startswith(f"/api/models/{NAME}")
            status = 404 if not is_known else access if self.path.endswith("/auth-check") else 200
            body = json.dumps(description if status == 200 else {"error": "refused"}).encode()
            self.send_response(status)
            code = error_code if is_known else "RepoNotFound"
            if status != 200 and code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def write_to_cache(cache: Path, *files: str) -> None:
    """Files as huggingface_hub leaves them after a download."""
    repository = cache / "models--maker--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for file in files:
        (snapshot / file).write_text("x")


def test_needed_files_are_those_that_vllm_and_transformers_load(tmp_path: Path) -> None:
    with hub() as url:
        found = HuggingFaceHub(url, tmp_path).look_up(NAME)
    assert set(found.files) == {
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    assert (found.weight_bytes, found.missing_bytes, found.is_float32) == (10_000, 10_100, False)


def test_files_in_the_cache_are_not_missing(tmp_path: Path) -> None:
    write_to_cache(tmp_path, "config.json", "model-00001-of-00002.safetensors")
    with hub(dtype="F32") as url:
        found = HuggingFaceHub(url, tmp_path).look_up(NAME)
    assert (found.weight_bytes, found.missing_bytes, found.is_float32) == (10_000, 3_000, True)


@pytest.mark.parametrize("access", [401, 403])
def test_gated_repository_is_told_from_an_unknown_one(tmp_path: Path, access: int) -> None:
    with hub(access, "GatedRepo") as url, pytest.raises(RepositoryGated):
        HuggingFaceHub(url, tmp_path).look_up(NAME)
    for name in ("maker/absent", "not/a/name"):
        with hub() as url, pytest.raises(RepositoryUnknown):
            HuggingFaceHub(url, tmp_path).look_up(name)


def test_hub_that_fails_or_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with hub(500) as url, pytest.raises(HubUnreachable):
        HuggingFaceHub(url, tmp_path).look_up(NAME)
    with pytest.raises(HubUnreachable):
        HuggingFaceHub(f"http://127.0.0.1:{free_ports(1)[0]}", tmp_path).look_up(NAME)


def test_cache_is_enough_only_with_weights(tmp_path: Path) -> None:
    assert not HuggingFaceHub("http://127.0.0.1:1", tmp_path / "empty").has_in_cache(NAME)
    write_to_cache(tmp_path / "half", "config.json")
    assert not HuggingFaceHub("http://127.0.0.1:1", tmp_path / "half").has_in_cache(NAME)
    write_to_cache(tmp_path / "whole", "config.json", "model.safetensors")
    assert HuggingFaceHub("http://127.0.0.1:1", tmp_path / "whole").has_in_cache(NAME)

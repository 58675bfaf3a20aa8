"""Keys and the texts of conversations appear in no place but the answers."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from serve_app.instance import ray_head
from tests.e2e.test_metrics import dashboard
from tests.support.system import Client, System

METRICS_TIMEOUT_S = 60


def written_by(system: System) -> Iterator[Path]:
    """Every file of the instance and of Ray's session, with its logs.

    The files of the bucket are left out.
    """
    session = ray_head.ray_directory(system.instance.home) / "session_latest"
    for root in (system.instance.home, session.resolve()):
        for path in root.rglob("*"):
            if path.is_file() and not path.is_relative_to(system.instance.home / "storage" / "data"):
                yield path


def shown_by(system: System) -> Iterator[str]:
    """The output of an operator's tools: every Prometheus endpoint, Serve's state, Ray's actors."""
    for target in (t for group in dashboard(system, "/api/prometheus/sd") for t in group["targets"]):
        yield httpx.get(f"http://{target}/metrics", trust_env=False, timeout=METRICS_TIMEOUT_S).text
    for path in ("/api/serve/applications/", "/logical/actors"):
        yield str(dashboard(system, path))


def command_lines() -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            yield " ".join(process.cmdline())
        except psutil.Error:
            continue


def test_keys_and_conversations_are_nowhere_to_be_read(system: System, alice: Client) -> None:
    word, lost = f"walrus{secrets.token_hex(6)}", f"tiger_{secrets.token_urlsafe(32)}"
    prompt = f"My secret is {word}."
    alice.create("Diary")
    alice.greedy("diary", prompt)
    body = {"model": "diary", "messages": [{"role": "user", "content": prompt}], "max_tokens": 4}
    alice.post("/openai/v1/chat/completions", body)
    assert alice.post("/openai/v1/chat/completions", {**body, "cache_salt": word}, 400)
    assert alice.post("/v1/generate_response", {**body, "temperature": word}, 422)
    alice.train("diary", prompt, {f"So it is {word}.": 1.0, "No.": 0.0}, learning_steps=1)
    stranger = Client(system.url, "nobody", lost)
    stranger.get("/v1/models", 401)
    created = alice.post("/v1/keys", {"name": "another"}, 201)["key"]
    hidden = [word, alice.key, lost, created]
    assert [line for line in command_lines() if any(secret in line for secret in hidden)] == []
    assert [text[:100] for text in shown_by(system) if any(secret in text for secret in hidden)] == []
    found = [path for path in written_by(system) if any(s.encode() in path.read_bytes() for s in hidden)]
    assert found == []
    assert sum(1 for path in written_by(system) if path.suffix == ".log") > 10

"""The real system, started once for all end-to-end tests: SeaweedFS, Ray, Serve, vLLM, Ray Train."""

import itertools
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.keys import ApiKeys
from registry.user_models import UserModelStore
from serve_app.deployment_options import base_model_application, model_server_name
from serve_app.instance.instance import Instance
from tests.support.storage import free_port

# A machine that others use too can be ten times slower.
CALL_TIMEOUT_S = 300.0


class Client:
    """One user of the API, over real HTTP. `call` returns the answer's JSON and checks its status."""

    def __init__(self, url: str, user: str, key: str) -> None:
        self.user = user
        self.key = key
        self.http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=CALL_TIMEOUT_S,
            trust_env=False,
        )

    def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.http.request(method, path, json=body)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def get(self, path: str, status: int = 200) -> Any:
        return self.call("GET", path, status=status)

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        return self.call("POST", path, body, status)

    def create(self, name: str, parent: str = "smollm2-135m", **values: Any) -> dict[str, Any]:
        body = {"name": name, "description": f"{name}.", "parent_model": parent, **values}
        return self.post("/v1/models", body, 201)

    def greedy(self, model: str, prompt: str, max_tokens: int = 16) -> dict[str, Any]:
        return self.post(
            "/v1/generate_response",
            {
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                "temperature": 0,
                "max_tokens": max_tokens,
            },
        )

    def train(self, model: str, prompt: str, rewards: dict[str, float], **values: Any) -> Any:
        return self.post("/v1/train", training(model, prompt, rewards, **values))

    def stream(self, path: str, body: Any) -> list[dict[str, Any]]:
        with self.http.stream("POST", path, json=body) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("application/x-ndjson")
            return [json.loads(line) for line in answer.iter_lines()]


def training(model: str, prompt: str, rewards: dict[str, float], **values: Any) -> dict[str, Any]:
    """A train request with one group. `rewards` has the responses and their rewards."""
    responses = [{"content": content, "reward": reward} for content, reward in rewards.items()]
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "messages": messages, "responses": responses, **values}


COUNTING = """
import time, ray
from ray import serve
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
handle = serve.get_deployment_handle("{deployment}", "{application}")
while True:
    print(handle.num_unfinished.remote().result(timeout_s=60), time.time(), flush=True)
    time.sleep(0.02)
"""


class Counts:
    """The numbers that a counting process has written."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self._lines = process.stdout

    def wait_for(self, is_enough: Callable[[int], bool], since: float = 0.0) -> float:
        """The first time after `since` at which the number is enough."""
        deadline = time.time() + CALL_TIMEOUT_S
        for line in self._lines:
            count, at = line.split()
            if float(at) > since and is_enough(int(count)):
                return float(at)
            assert time.time() < deadline, f"there are {count}"
        raise AssertionError("counting has ended")


@dataclass
class System:
    instance: Instance

    @property
    def url(self) -> str:
        return self.instance.url

    def new_key(self, user: str) -> str:
        return ApiKeys(self.instance.store()).create(user, "test")

    def client(self, user: str) -> Client:
        return Client(self.url, user, self.new_key(user))

    def uid(self, client: Client, model: str) -> str:
        """The uid of a model in the bucket, which no answer of the API contains."""
        models = UserModelStore(self.instance.store()).load(client.user).models.models
        return next(found.uid for found in models if found.id == model)

    @contextmanager
    def counted(self, base_model: str = "smollm2-135m") -> "Iterator[Counts]":
        """Count the generations of a base model in progress, as its replica reports them, in the block."""
        script = COUNTING.format(
            deployment=model_server_name(base_model), application=base_model_application(base_model)
        )
        command = [sys.executable, "-c", script]
        with subprocess.Popen(
            command, env=self.instance.environment(), stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield Counts(process)
            finally:
                process.kill()

    def run_inside(self, script: str) -> str:
        """Run a Python script as a driver of the instance's Ray; returns its standard output."""
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=self.instance.environment(),
            capture_output=True,
            text=True,
            timeout=CALL_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve_log(self) -> str:
        """The end of every replica's log, for the report of a failed test."""
        logs = sorted(self.instance.home.glob("**/*.log"), key=lambda path: path.stat().st_mtime)
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in logs[-3:])


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The running system, on free ports and with a home of its own, so that it can run beside a `make up`."""
    config = Path(__file__).resolve().parents[2] / "configs" / "test.yaml"
    home = tmp_path_factory.mktemp("instance")
    instance = Instance(home, str(config), http_port=free_port(), dashboard_port=free_port())
    lines: list[str] = []
    try:
        key = instance.up(lines.append)
        assert key is not None and key.startswith("tiger_")
        yield System(instance)
    finally:
        instance.down(lines.append)


@pytest.fixture
def user(system: System) -> Callable[[], Client]:
    """A function that makes clients, each for a new user."""
    numbers = itertools.count()
    stem = f"u{secrets.token_hex(4)}"
    return lambda: system.client(f"{stem}-{next(numbers)}")


@pytest.fixture
def alice(user: Callable[[], Client]) -> Client:
    return user()


@pytest.fixture
def bob(user: Callable[[], Client]) -> Client:
    return user()

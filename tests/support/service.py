"""The application over real HTTP: Serve, Ingress, Catalog, Trainer and object store are real; no vLLM starts.

A small fake takes the place of the model server, and the test acts as the training worker.
"""

import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve
from ray.exceptions import RayActorError

from registry.deployment_calls import DeploymentCalls
from registry.keys import ApiKeys
from registry.records import utc_now
from registry.revisions import Revisions
from registry.settings import StorageSettings
from registry.store import ObjectStore
from serve_app.deployment_options import APPLICATION, TRAINER
from serve_app.http_settings import HttpSettings
from serve_app.instance import haproxy
from serve_app.instance.seaweedfs import ObjectServer, stop
from serve_app.settings import (
    BaseModelSettings,
    IngressSettings,
    LimitSettings,
    Settings,
    UsageSettings,
)
from tests.support.account import Account, assert_one_request_id
from tests.support.service_application import START_TIMEOUT_S, are_running, document_of, submit
from tests.support.storage import free_port
from tests.support.waiting import wait_until
from training.types import Assignment, Controller, Standing, StepProgress

MAX_REQUEST_BYTES = IngressSettings().max_request_bytes
PAGE = "https://page.example.com"
"""The origin of pages that may use the API in a browser."""
BODY_TIMEOUT_S = 20


def base_model(base_id: str, name: str) -> BaseModelSettings:
    return BaseModelSettings(
        id=base_id, name=name, description=f"{name}.", last_modified=utc_now(), source="/nowhere",
        max_context_tokens=64, rank=8, max_rank=16,
    )  # fmt: skip


class Service:
    """The running application, with access to its HTTP API and to its bucket."""

    def __init__(
        self, url: str, settings: Settings, signals: Path, logs: Path, object_server: ObjectServer
    ) -> None:
        self.url = url
        self.settings = settings
        self.signals = signals
        self.logs = logs
        self.object_server = object_server
        self.object_process = object_server.start()
        self.store = ObjectStore(settings.storage)

    def deploy(self, settings: Settings) -> None:
        """Submit settings, and return when everything is as they ask."""
        self.submit(settings)
        wait_until(lambda: are_running(document_of(settings)), START_TIMEOUT_S, pause_s=0.1)

    def submit(self, settings: Settings) -> None:
        """Submit settings. Applications and replicas that they do not change stay."""
        self.settings = settings
        submit(document_of(settings), self.signals)

    def user(self) -> "Account":
        user = f"user-{secrets.token_hex(4)}"
        return self.account(user, ApiKeys(self.store).create(user, "test"))

    def account(self, user: str, key: str) -> "Account":
        client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=40,
            trust_env=False,
            event_hooks={"response": [assert_one_request_id]},
        )
        return Account(user, key, client)

    def work(self, base_id: str, directory: Path) -> Assignment:
        """Act as the worker for the next job of a base model."""
        assignment = assigned(base_id)
        self.train(base_id, assignment, directory)
        return assignment

    @contextmanager
    def working(self, directory: Path) -> Iterator[None]:
        """Let workers of all base models train the accepted jobs during the block."""
        base_ids = [model.id for model in self.settings.models]
        is_over = threading.Event()
        with ThreadPoolExecutor(len(base_ids)) as pool:
            workers = [pool.submit(self._work_on, base_id, directory, is_over) for base_id in base_ids]
            try:
                yield
            finally:
                is_over.set()
                for base_id in base_ids:  # a worker that waits for work is sent away
                    controller().call(Controller.enter, base_id).result(timeout_s=30)
            for worker in workers:
                worker.result(timeout=60)

    def _work_on(self, base_id: str, directory: Path, is_over: threading.Event) -> None:
        calls = controller()
        own_directory = directory / base_id
        own_directory.mkdir()
        worker = calls.call(Controller.enter, base_id).result(timeout_s=30)
        while not is_over.is_set():
            answer = calls.call(Controller.next_assignment, base_id, worker).result(timeout_s=60)
            if isinstance(answer, Assignment):
                self.train(base_id, answer, own_directory)

    def train(self, base_id: str, assignment: Assignment, directory: Path) -> None:
        """Make one step, unless the job was cancelled, and publish the new revision."""
        calls = controller()
        step = StepProgress(
            step=1, steps=5, loss=0.5, kl=0, clip_ratio=0, grad_norm=1, reward_mean=0.5, reward_std=0.5,
            learning_rate=1e-5, seconds=0.1,
        )  # fmt: skip
        attempt = (assignment.job_id, assignment.attempt)
        if calls.call(Controller.progress, *attempt, step).result(timeout_s=30) is Standing.IS_CANCELLED:
            calls.call(Controller.stopped, *attempt).result(timeout_s=30)
            return
        (directory / "adapter_config.json").write_text("{}")
        (directory / "adapter_model.safetensors").write_bytes(assignment.job_id.encode())
        Revisions(self.store).publish(
            assignment.uid,
            directory,
            revision=assignment.revision,
            parent_revision=assignment.parent_revision,
            job=assignment.job_id,
            base_model=base_id,
            metrics={"loss": 0.5, "trained_tokens": 40, "duration_s": 1.5},
        )
        calls.call(Controller.complete, *attempt).result(timeout_s=30)


def controller() -> DeploymentCalls[Controller]:
    """The calls of a training worker to the running Trainer."""
    return DeploymentCalls(serve.get_deployment_handle(TRAINER, APPLICATION))


def report_failure(assignment: Assignment) -> None:
    """Report, as a training worker, that the training of this assignment failed."""
    report = (assignment.job_id, assignment.attempt, "training_failed", "no luck")
    controller().call(Controller.fail, *report).result(timeout_s=30)


def assigned(base_id: str) -> Assignment:
    """The assignment of a training worker that has just begun. If the Trainer dies, it asks the next one."""
    calls = controller()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            worker = calls.call(Controller.enter, base_id).result(timeout_s=30)
            answer = calls.call(Controller.next_assignment, base_id, worker).result(timeout_s=30)
        except RayActorError:  # it asks the next Trainer, as a real worker does
            time.sleep(0.1)
            continue
        if isinstance(answer, Assignment):
            return answer
    raise AssertionError("no job came in time")


@contextmanager
def running_service(root: Path, limits: LimitSettings, num_ingresses: int = 1) -> Iterator[Service]:
    """Start the application in `root`, with an object store and a Ray of its own."""
    (root / "signals").mkdir()
    object_server = ObjectServer(root / "objects", free_port())
    settings = Settings(
        http=HttpSettings(port=free_port()),
        storage=StorageSettings(endpoint_url=object_server.endpoint_url, bucket="tests"),
        ingress=IngressSettings(
            num_replicas=num_ingresses,
            allowed_origins=(PAGE,),
            num_cpus=0,
            max_request_bytes=MAX_REQUEST_BYTES,
            body_timeout_s=BODY_TIMEOUT_S,
        ),
        limits=limits,
        usage=UsageSettings(flush_interval_s=0.2),
        default_model="one",
        models=(base_model("two", "Two"), base_model("one", "One")),
    )
    # The paths of sockets below the directory may have at most 107 characters.
    with (
        pytest.MonkeyPatch.context() as environment,
        tempfile.TemporaryDirectory(prefix="tiger-", dir="/tmp", ignore_cleanup_errors=True) as ray_directory,
    ):
        for name in [name for name in os.environ if name.startswith(("AWS_", "RAY_", "TIGER_"))]:
            environment.delenv(name)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(object_server.credentials_path))
        environment.setenv("RAY_AUTH_MODE", "disabled")
        own = haproxy.environment(Path(ray_directory) / "h")
        own |= haproxy.front_door_environment(settings.http, MAX_REQUEST_BYTES)
        for name, value in own.items():
            environment.setenv(name, value)
        for name in haproxy.PORT_VARIABLES:
            environment.setenv(name, str(free_port()))
        url, logs = f"http://127.0.0.1:{settings.http.port}", Path(ray_directory) / "session_latest" / "logs"
        service = Service(url, settings, root / "signals", logs, object_server)
        try:
            ray.init(
                address="local",
                num_cpus=8,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=128 * 2**20,
                _temp_dir=ray_directory,
                _system_config={"metrics_report_interval_ms": 1000},
            )
            serve.start(http_options={"host": haproxy.SERVE_HOST, "port": settings.http.port})
            service.deploy(settings)
            yield service
        finally:
            serve.shutdown()
            ray.shutdown()
            stop(service.object_process.pid)
            service.object_process.wait()


def train_once(service: Service, account: Account, directory: Path, model: str = "mine") -> dict[str, Any]:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(account.train, model)
        service.work("one", directory)
        response = answer.result(timeout=30)
    assert response.status_code == 200, response.text
    return response.json()

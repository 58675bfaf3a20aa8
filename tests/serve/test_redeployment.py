"""Settings change, and base models come and go, while others stream, train and ask."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from registry.jobs import ACTIVE_PREFIX
from serve_app.deployment_options import CATALOG, INGRESS, TRAINER, model_server_name
from serve_app.settings import Settings
from tests.support.account import ENDLESS, Account, assert_error, chunks_of
from tests.support.replicas import replica_ids
from tests.support.service import Service, assigned, base_model, controller
from tests.support.waiting import wait_until
from training.types import Assignment, Controller, Instruction, Standing

REQUESTS_PER_S = 20
CORE = (INGRESS, CATALOG, TRAINER)
WAITS = "Base model two is not deployed; the training waits for it"
BROKEN = (
    "base model four has no replica that answers: its replica cannot start: a file says that it is broken"
)


@pytest.fixture
def restored(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of the module, which are deployed again at the end. No training of other tests waits."""
    settings = service.settings
    with service.working(tmp_path_factory.mktemp("others")):
        wait_until(lambda: not service.store.list(ACTIVE_PREFIX), 60)
    yield settings
    service.deploy(settings)


def replicas(*base_models: str) -> set[str]:
    """The replicas of `tiger` and of these base models."""
    names = (*CORE, *map(model_server_name, base_models))
    return {replica for name in names for replica in replica_ids(name)}


def with_limits(settings: Settings, **limits: int) -> Settings:
    return settings.model_copy(update={"limits": settings.limits.model_copy(update=limits)})


class Load:
    """Requests of one user at a steady rate, half of them generations, and the statuses of the answers."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._is_over = threading.Event()
        self.statuses: list[int] = []

    def run(self) -> None:
        begin = time.monotonic()
        while not self._is_over.wait(self._pause_s(begin)):
            is_generation = len(self.statuses) % 2 == 0
            answer = self._account.generate() if is_generation else self._account.http.get("/v1/models")
            self.statuses.append(answer.status_code)

    def _pause_s(self, begin: float) -> float:
        """The time until the next request is due."""
        return max(begin + len(self.statuses) / REQUESTS_PER_S - time.monotonic(), 0)

    def end(self) -> None:
        self._is_over.set()


@contextmanager
def under_load(account: Account) -> Iterator[None]:
    """Ask during the block. Every request must succeed."""
    load = Load(account)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load.run)
        try:
            yield
        finally:
            load.end()
        running.result(timeout=60)
    assert load.statuses and set(load.statuses) == {200}


@contextmanager
def streaming(account: Account) -> Iterator[Iterator[str]]:
    """The lines of an answer that has no end."""
    body = {"messages": ENDLESS, "stream": True}
    with account.http.stream("POST", "/v1/generate_response", json=body) as response:
        assert response.status_code == 200
        yield response.iter_lines()


def assert_all_goes_on(lines: Iterator[str], assignment: Assignment) -> None:
    """The stream has another piece, and the Trainer takes another report of the training."""
    assert json.loads(next(lines))["type"] == "delta"
    report = (assignment.job_id, assignment.attempt, "Still at work")
    assert controller().call(Controller.inform, *report).result(timeout_s=30) is Standing.GOES_ON


def test_changes_concern_nobody_else(
    service: Service, restored: Settings, accounts: list[Account], tmp_path: Path
) -> None:
    """A limit changes; base model `three` comes; `two` goes, and comes back."""
    loader, streamer, trainer, owner = accounts[:4]
    trainer.create("Mine", parent="one")
    for name in ("Kept", "Deleted"):
        owner.create(name, parent="two")
    with ExitStack() as stack:
        stack.enter_context(under_load(loader))
        lines = stack.enter_context(streaming(streamer))
        training = stack.enter_context(ThreadPoolExecutor(1)).submit(trainer.train, "mine", stream=True)
        assignment = assigned("one")
        before = replicas("one", "two")

        service.deploy(with_limits(restored, max_models_per_user=1, max_concurrent_generations_per_user=1))
        another = {"name": "Another", "description": "", "parent_model": "one"}
        assert_error(trainer.http.post("/v1/models", json=another), 429, "quota_exceeded")
        assert_error(streamer.generate(), 429, "rate_limited")
        assert replicas("one", "two") == before, "nothing was restarted"
        assert_all_goes_on(lines, assignment)

        three = base_model("three", "Three")
        service.deploy(restored.model_copy(update={"models": (*restored.models, three)}))
        wait_until(lambda: owner.generate(model="three").status_code == 200, 30)
        assert replicas("one", "two") == before
        assert_all_goes_on(lines, assignment)

        job = owner.train("kept", background=True).json()["id"]
        with run_of_two_ends(service):
            service.deploy(restored.model_copy(update={"models": (restored.base_model("one"), three)}))
        assert replicas("one") < before and not replica_ids(model_server_name("two"))
        assert_all_goes_on(lines, assignment)
        assert_private_models_wait(service, owner)
        assert WAITS in owner.http.get(f"/v1/jobs/{job}/events").text

        service.deploy(restored)
        wait_until(lambda: owner.generate(model="kept").status_code == 200, 30)
        assert owner.http.get("/v1/models/kept").json()["status"] == "training"
        assert service.work("two", tmp_path).job_id == job
        assert replicas("one") < before
        assert_all_goes_on(lines, assignment)

        service.train("one", assignment, tmp_path)
        end = chunks_of(training.result(timeout=60))[-1]
        assert (end["type"], end["revision"]) == ("stop", 1)
    revisions = trainer.http.get("/v1/models/mine/revisions").json()
    assert [(each["revision"], each["job"]) for each in revisions] == [(1, assignment.job_id)]


@contextmanager
def run_of_two_ends(service: Service) -> Iterator[None]:
    """The worker of `two`, which begins before the block, is sent away after it. Then its run ends."""
    worker = controller().call(Controller.enter, "two").result(timeout_s=30)
    yield
    order = controller().call(Controller.next_assignment, "two", worker).result(timeout_s=60)
    assert order == Instruction.LEAVE
    (service.signals / "ended-run two").touch()


def assert_private_models_wait(service: Service, owner: Account) -> None:
    """The copies of `two` are listed and can be deleted, but do not answer while it is not there."""
    assert httpx.get(f"{service.url}/readyz", trust_env=False, timeout=30).status_code == 200
    listed = {model["id"] for model in owner.http.get("/v1/models").json()}
    assert {"kept", "deleted"} < listed and "two" not in listed
    detail = owner.http.get("/v1/models/kept").json()
    assert (detail["status"], detail["base_model"]) == ("unavailable", "two")
    for answer in (
        owner.generate(model="kept"),
        owner.train("kept"),
        owner.http.post("/openai/v1/chat/completions", json={"model": "kept", "messages": ENDLESS}),
    ):
        assert_error(answer, 503, "unavailable")
        assert "base model two is not deployed" in answer.json()["error"]["message"]
    assert_error(owner.generate(model="two"), 404, "model_not_found", "model")
    assert owner.http.delete("/v1/models/deleted").status_code == 200


def test_broken_base_model_says_why_and_holds_up_nobody(
    service: Service, restored: Settings, alice: Account
) -> None:
    (service.signals / "broken four").touch()
    before = replicas("one", "two")
    service.submit(restored.model_copy(update={"models": (*restored.models, base_model("four", "Four"))}))

    def readiness() -> str:
        return httpx.get(f"{service.url}/readyz", trust_env=False, timeout=30).text

    wait_until(lambda: BROKEN in readiness(), 60, pause_s=0.2)
    assert "base model one" not in readiness()
    assert alice.generate().status_code == 200
    answer = alice.generate(model="four")
    assert_error(answer, 503, "unavailable")
    assert "four" in answer.json()["error"]["message"]
    assert replicas("one", "two") == before


def test_replica_of_a_base_model_opens_no_port_for_http(service: Service) -> None:
    """Serve would make the outermost deployment of its application answer HTTP without a key."""
    (replica,) = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ServeReplica:base-model-one:")
    ]
    listening = [each.laddr for each in replica.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    assert listening, "other deployments reach it over gRPC"
    for address in listening:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{host_of(address.ip)}:{address.port}/-/healthz", trust_env=False, timeout=5)


def host_of(ip: str) -> str:
    """Return the address as a URL has it."""
    return f"[{ip}]" if ":" in ip else ip

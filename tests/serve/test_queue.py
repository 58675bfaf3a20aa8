"""Many trainings, over real HTTP: they are bounded and fair, disturb nobody, and show in Prometheus."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serve_app.deployment_options import APPLICATION, TRAINER
from serve_app.settings import LimitSettings
from tests.support.account import Account, assert_error
from tests.support.service import Service, assigned, report_failure, train_once
from tests.support.waiting import wait_until

NUM_USERS = 20
JOBS_PER_USER = 50
LABELS_OF_RAY = {
    "Component", "NodeAddress", "SessionName", "Version", "WorkerId",
    "otel_scope_name", "otel_scope_schema_url", "otel_scope_version",
}  # fmt: skip
OF_BASE_MODEL = {"base_model"}
METRICS = {
    "queue_length": OF_BASE_MODEL,
    "wait_seconds": OF_BASE_MODEL,
    "job_seconds": {"base_model", "outcome"},
    "publish_seconds": OF_BASE_MODEL,
    "tokens": OF_BASE_MODEL,
    "steps": OF_BASE_MODEL,
    "step_loss": OF_BASE_MODEL,
    "step_kl": OF_BASE_MODEL,
    "step_reward_mean": OF_BASE_MODEL,
    "step_grad_norm": OF_BASE_MODEL,
    "step_clip_ratio": OF_BASE_MODEL,
    "step_seconds": OF_BASE_MODEL,
}
LIMITS = LimitSettings(max_queued_jobs_per_user=JOBS_PER_USER)
IS_FRESH = True


@pytest.fixture
def accounts(service: Service) -> Iterator[list[Account]]:
    with ExitStack() as clients:
        accounts = [service.user() for _ in range(NUM_USERS)]
        for account in accounts:
            clients.enter_context(account.http)
        yield accounts


def scrape() -> str:
    """The text that Prometheus reads from this node."""
    url = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
    return httpx.get(url, trust_env=False).raise_for_status().text


def samples() -> dict[str, list[Sample]]:
    """The samples of trainings, by the name of the metric."""
    prefix = "ray_tiger_training_"
    families = [f for f in text_string_to_metric_families(scrape()) if f.name.startswith(prefix)]
    assert all(family.documentation for family in families)
    return {family.name.removeprefix(prefix): family.samples for family in families}


def value(name: str, **labels: str) -> float | None:
    """The value of the sample with this name; None while there is no such sample."""
    for sample in (sample for found in samples().values() for sample in found):
        if sample.name == f"ray_tiger_training_{name}" and labels.items() <= sample.labels.items():
            return sample.value
    return None


def waits_for_resources() -> dict[tuple[str, str], float]:
    """The waits of base model `one` for resources, by kind. Their samples are there while nothing waits."""
    families = [
        family
        for family in text_string_to_metric_families(scrape())
        if family.name == "ray_tiger_resource_wait_seconds"
    ]
    return {
        (sample.labels["base_model"], sample.labels["kind"]): sample.value
        for family in families
        for sample in family.samples
        if sample.labels["base_model"] == "one"
    }


def fail(base_id: str) -> Any:
    """Act as the worker for a job that does not succeed."""
    assignment = assigned(base_id)
    report_failure(assignment)
    return assignment


def test_trainings_are_seen_in_prometheus(service: Service, alice: Account, tmp_path: Path) -> None:
    alice.create("Orchid")
    train_once(service, alice, tmp_path, "orchid")
    alice.train("orchid", background=True)
    fail("one")
    waiting = alice.train("orchid", background=True).json()["id"]
    assert alice.http.post(f"/v1/jobs/{waiting}/cancel").json()["status"] == "cancelled"

    outcomes = ("succeeded", "failed", "cancelled")
    wait_until(lambda: all(value("job_seconds_count", outcome=o) == 1 for o in outcomes), 30)
    found = samples()
    assert found.keys() == METRICS.keys()
    for name, labels in METRICS.items():
        for sample in found[name]:
            assert sample.labels.keys() - LABELS_OF_RAY - {"le"} == labels, sample
            assert sample.labels["base_model"] in ("one", "two")
    assert value("wait_seconds_count", base_model="one") == 2
    assert value("queue_length", base_model="one") == value("queue_length", base_model="two") == 0
    assert value("tokens_total", base_model="one") == 40
    assert value("steps_total", base_model="one") == 1
    last = {name: value(f"step_{name}") for name in ("loss", "kl", "reward_mean", "grad_norm", "clip_ratio")}
    assert last == {"loss": 0.5, "kl": 0, "reward_mean": 0.5, "grad_norm": 1, "clip_ratio": 0}
    assert value("step_seconds") == 0.1
    assert waits_for_resources() == {("one", "replica"): 0, ("one", "training"): 0}
    assert "orchid" not in scrape().lower() and alice.user not in scrape()


def test_thousand_queued_trainings_are_in_nobodys_way(
    service: Service, alice: Account, accounts: list[Account]
) -> None:
    alice.create("Mine")
    held = alice.train(background=True).json()["id"]
    running = assigned("one")
    assert running.job_id == held
    accepted = queue_up(accounts, meanwhile=alice)

    wait_until(lambda: value("queue_length", base_model="one") == NUM_USERS * JOBS_PER_USER, 30)
    assert len(service.store.list("jobs-active/")) == NUM_USERS * JOBS_PER_USER + 1
    for account in accounts:
        listed = account.http.get("/v1/jobs", params={"limit": 100}).json()
        assert [job["id"] for job in listed] == accepted[account.user][::-1]
        assert {job["status"] for job in listed} == {"queued"}
        assert_error(account.train(background=True), 429, "quota_exceeded")
    assert alice.http.get(f"/v1/jobs/{held}").json()["status"] == "running"

    assert fail("one").job_id == held
    in_turn = [fail("one").job_id for _ in range(2 * NUM_USERS)]
    assert in_turn == [accepted[account.user][number] for number in (0, 1) for account in accounts]

    # Ends are written down beside what follows; one that is not is told again after a crash.
    num_left = (JOBS_PER_USER - 2) * NUM_USERS
    wait_until(lambda: len(service.store.list("jobs-active/")) == num_left, 30)
    kill_trainer()
    next_ones = [fail("one").job_id for _ in accounts]
    assert sorted(next_ones) == sorted(accepted[account.user][2] for account in accounts)
    assert {job["id"] for job in accounts[0].http.get("/v1/jobs?status=queued&limit=100").json()} == set(
        accepted[accounts[0].user][3:]
    )


def queue_up(accounts: list[Account], meanwhile: Account) -> dict[str, list[str]]:
    """Submit jobs of all accounts; returns the ids of the accepted jobs by user.

    The first jobs come in the order of `accounts`.
    """

    def one(account: Account) -> str:
        response = account.train(background=True)
        assert response.status_code == 202, response.text
        job_id: str = response.json()["id"]
        return job_id

    for account in accounts:
        account.create()
    accepted = {account.user: [one(account)] for account in accounts}

    def the_others(account: Account) -> None:
        accepted[account.user] += [one(account) for _ in range(JOBS_PER_USER - 1)]

    with ThreadPoolExecutor(8) as pool:
        queueing = [pool.submit(the_others, account) for account in accounts]
        for number, done in enumerate(as_completed(queueing)):
            done.result()
            meanwhile.create(f"Model {number}")
            assert len(meanwhile.http.get("/v1/models").json()) == number + 4
            assert meanwhile.generate(model=f"Model {number}").status_code == 200
    return accepted


def kill_trainer() -> None:
    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    replica = next(name for name in names if f"{APPLICATION}#{TRAINER}#" in name)
    ray.kill(ray.get_actor(replica, namespace="serve"))

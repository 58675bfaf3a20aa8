"""Processes are killed while trainings run: each training happens once, and other models still answer."""

import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.revisions import Revisions
from registry.user_models import UserModelStore
from serve_app.instance.processes import wait_until
from tests.support.faults import (
    CATALOG,
    INGRESS,
    PROMPT,
    REPLICA,
    REWARDS,
    SERVE_CONTROLLER,
    TRAIN_CONTROLLER,
    TRAIN_WORKER,
    TRAINER,
    Talk,
    accepted,
    assert_ended_once,
    assert_exactly_once,
    follow,
    kill,
    kill_everything,
    kill_storage,
    processes,
    reach,
    send,
)
from tests.support.system import Client, System, training

# On a machine that others use, starting everything again takes minutes.
pytestmark = pytest.mark.timeout(1800)

STEP = {"type": "progress", "step": 1}
SAVING = {"message": "Saving revision 1"}
STORAGE_AWAY_S = 20.0


@pytest.fixture(scope="module")
def speaker(system: System) -> Iterator[Client]:
    """A client that has a model with a revision of its own, which nobody trains any more."""
    client = system.client(f"speaker-{secrets.token_hex(4)}")
    client.create("Steady")
    client.train("steady", PROMPT, REWARDS, learning_steps=1, learning_rate=1e-3)
    yield client


@pytest.fixture
def talk(speaker: Client) -> Talk:
    return Talk(speaker, "smollm2-135m", "steady@1")


@pytest.mark.parametrize(
    ("victim", "moment"),
    [
        pytest.param(TRAIN_WORKER, STEP, id="worker-in-a-step"),
        pytest.param(TRAIN_WORKER, SAVING, id="worker-at-the-end"),
        pytest.param(TRAIN_CONTROLLER, STEP, id="ray-train-controller"),
        pytest.param(TRAINER, STEP, id="trainer"),
        pytest.param(CATALOG, SAVING, id="catalog"),
    ],
)
def test_training_happens_once_whatever_dies(
    system: System, alice: Client, talk: Talk, tmp_path: Path, victim: str, moment: dict[str, Any]
) -> None:
    alice.create("Pupil")
    with talk:
        jobs = accepted(alice, "pupil", 3, 1)
        events = follow(alice, jobs[0])
        reach(events, **moment)
        kill(system, victim)
        assert_ended_once(list(events))
        assert_ended_once(list(follow(alice, jobs[1])))
    assert_exactly_once(system, alice, "pupil", jobs, tmp_path)
    run = (TRAIN_CONTROLLER, TRAIN_WORKER)
    assert wait_until(lambda: [len(processes(system, part)) for part in run] == [1, 1], 120), "orphans"


def test_training_whose_manifest_is_written_is_not_made_again(
    system: System, alice: Client, talk: Talk, tmp_path: Path
) -> None:
    """The trainer dies between the manifest and the swap of models.json.

    A catalog that stands still makes time for that.
    """
    alice.create("Pupil")
    with talk:
        jobs = accepted(alice, "pupil", 3, 1)
        events = follow(alice, jobs[0])
        reach(events, type="progress", step=1)
        send(system, signal.SIGSTOP, CATALOG)
        reach(events, message="Publishing revision 1")
        store, uid = system.instance.store(), system.uid(alice, "pupil")
        manifest = Revisions(store).manifest(uid, 1)
        assert manifest is not None and manifest.job == jobs[0]
        assert UserModelStore(store).load(alice.user).models.models[0].latest_revision == 0
        kill(system, TRAINER, CATALOG)
        assert_ended_once(list(events))
        assert_ended_once(list(follow(alice, jobs[1])))
    assert Revisions(store).manifest(uid, 1) == manifest
    assert_exactly_once(system, alice, "pupil", jobs, tmp_path)


def runs(system: System) -> bool:
    """True if Serve's controller answers and says that every application runs."""
    return {each.status for each in system.instance.status().applications} == {"RUNNING"}


def test_replicas_outlive_serves_controller(system: System, talk: Talk) -> None:
    """The next controller takes over the replicas that it finds, with their engines and their generations."""
    before = {process.pid for process in processes(system, REPLICA)}
    with talk:
        kill(system, SERVE_CONTROLLER)
        assert wait_until(lambda: bool(processes(system, SERVE_CONTROLLER)), 120)
        assert wait_until(lambda: runs(system), 120)
        assert {process.pid for process in processes(system, REPLICA)} == before


def test_streamed_training_goes_on_without_its_ingress(
    system: System, alice: Client, talk: Talk, tmp_path: Path
) -> None:
    """The connection breaks. The job goes on, and its events tell everything from the first one on."""
    alice.create("Pupil")
    with talk:
        body = training("pupil", PROMPT, REWARDS, learning_steps=3, stream=True)
        with alice.http.stream("POST", "/v1/train", json=body) as answer:
            lines = answer.iter_lines()
            assert any('"progress"' in line for line in lines)
            with talk.silent():
                kill(system, INGRESS)
            with suppress(httpx.HTTPError):
                assert not any('"stop"' in line for line in lines)
        job = alice.get("/v1/jobs?model=pupil")[0]["id"]
        events = list(follow(alice, job))
        assert_ended_once(events)
        assert events[0] == {"type": "info", "message": "Queued"}
    assert_exactly_once(system, alice, "pupil", [job], tmp_path)


def test_storage_away_while_a_revision_is_published_delays_it_only(
    system: System, alice: Client, talk: Talk, tmp_path: Path
) -> None:
    alice.create("Pupil")
    with talk:
        jobs = accepted(alice, "pupil", 3, 1)
        events = follow(alice, jobs[0])
        reach(events, **SAVING)
        kill_storage(system)
        back_at = time.monotonic() + STORAGE_AWAY_S
        try:
            while time.monotonic() < back_at:
                talk.go_on()
        finally:
            system.instance.storage.ensure(lambda line: None, may_move=False)
        assert_ended_once(list(events))
        assert_ended_once(list(follow(alice, jobs[1])))
    assert_exactly_once(system, alice, "pupil", jobs, tmp_path)


def test_nothing_is_lost_when_everything_dies(
    system: System, speaker: Client, alice: Client, tmp_path: Path
) -> None:
    """One training runs and five wait at that moment."""
    alice.create("Survivor", temperature=0.3)
    alice.create("Other")
    first = alice.train("survivor", PROMPT, REWARDS, learning_steps=1)["job"]
    spoken = alice.greedy("survivor@1", PROMPT, 8)["message"], speaker.greedy("steady", PROMPT, 8)["message"]
    survivors = accepted(alice, "survivor", 3, 1, 1)
    others = accepted(alice, "other", 1, 1, 1)
    reach(follow(alice, survivors[0]), **STEP)
    listing = alice.get("/v1/models")
    kill_everything(system)
    with pytest.raises(httpx.HTTPError):
        alice.http.get("/healthz", timeout=5)

    system.instance.up(lambda line: None)
    assert [model["id"] for model in alice.get("/v1/models")] == [model["id"] for model in listing]
    for job in (*survivors, *others):
        assert_ended_once(list(follow(alice, job)))
    assert_exactly_once(system, alice, "survivor", [first, *survivors], tmp_path)
    assert_exactly_once(system, alice, "other", others, tmp_path)
    again = alice.greedy("survivor@1", PROMPT, 8)["message"], speaker.greedy("steady", PROMPT, 8)["message"]
    assert again == spoken
    assert alice.get("/v1/models/survivor")["temperature"] == 0.3

"""Cancel, idempotency and download, in the real system."""

import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.support.system import Client, System, training

PROMPT = "Pick a number."
REWARDS = {"Seven.": 1.0, "No.": 0.0}


def last_event(client: Client, job: str) -> dict[str, object]:
    lines = client.http.get(f"/v1/jobs/{job}/events?follow=true").text.splitlines()
    last: dict[str, object] = json.loads(lines[-1])
    return last


def test_cancelled_jobs_leave_no_revision(alice: Client) -> None:
    """A running job ends within a step and a waiting job at once.

    The next job starts from the same revision.
    """
    alice.create("Changing")
    body = training("changing", PROMPT, REWARDS, learning_steps=1000, background=True)
    running, waiting = (alice.post("/v1/train", body, 202)["id"] for _ in range(2))
    with alice.http.stream("GET", f"/v1/jobs/{running}/events?follow=true") as events:
        next(line for line in events.iter_lines() if '"progress"' in line)
    assert alice.post(f"/v1/jobs/{waiting}/cancel")["status"] == "cancelled"
    alice.post(f"/v1/jobs/{running}/cancel")
    for job in (running, waiting):
        assert last_event(alice, job)["error"]["code"] == "training_cancelled"  # type: ignore[index]
        ended = alice.get(f"/v1/jobs/{job}")
        assert (ended["status"], ended["revision"]) == ("cancelled", None)
        assert alice.post(f"/v1/jobs/{job}/cancel") == ended
    assert alice.get(f"/v1/jobs/{running}")["step"] < 1000
    assert alice.get("/v1/models/changing")["revision"] == 0
    assert alice.get("/v1/models/changing/revisions") == []
    assert alice.train("changing", PROMPT, REWARDS, learning_steps=1)["revision"] == 1


def test_foreign_job_cannot_be_cancelled(alice: Client, bob: Client) -> None:
    alice.create("Mine", parent="twin")
    job = alice.train("mine", PROMPT, REWARDS, learning_steps=1)["job"]
    assert bob.post(f"/v1/jobs/{job}/cancel", status=404)["error"]["code"] == "job_not_found"


def test_repeats_with_an_idempotency_key_make_one_training(alice: Client) -> None:
    alice.create("Once", parent="twin")
    body = training("once", PROMPT, REWARDS, learning_steps=1)
    headers = {"Idempotency-Key": "the only one"}

    def send(_: int) -> object:
        return alice.http.post("/v1/train", json=body, headers=headers).json()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(4)))
    assert answers == [answers[0]] * 4 and send(0) == answers[0]
    assert len(alice.get("/v1/jobs?model=once")) == 1
    other = alice.http.post("/v1/train", json={**body, "beta": 0.5}, headers=headers)
    assert other.status_code == 409 and other.json()["error"]["code"] == "idempotency_conflict"


def test_repeats_with_an_idempotency_key_make_one_model(alice: Client) -> None:
    body = {"name": "Single", "description": "", "parent_model": "twin"}

    def send(_: int) -> tuple[int, str]:
        answer = alice.http.post("/v1/models", json=body, headers={"Idempotency-Key": "k"})
        return answer.status_code, answer.text

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(4)))
    assert answers == [answers[0]] * 4 and answers[0][0] == 201
    alice.call("DELETE", "/v1/models/single")
    assert send(0)[0] == 404


def test_downloaded_adapter_loads_with_peft(system: System, alice: Client, tmp_path: Path) -> None:
    alice.create("Takeaway")
    alice.train("takeaway", PROMPT, REWARDS, learning_steps=1)
    answer = alice.http.get("/v1/models/takeaway/revisions/1/adapter")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / "takeaway-1"
    manifest = json.loads((unpacked / "manifest.json").read_text())
    published = alice.get("/v1/models/takeaway/revisions")[0]
    assert manifest["sha256"] == published["sha256"] and "key" not in manifest["files"][0]
    weights = system.instance.settings.weights_directory.expanduser() / "smollm2-135m"
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(weights), unpacked)
    for missing in (0, 2, 10**8):
        alice.get(f"/v1/models/takeaway/revisions/{missing}/adapter", 404)

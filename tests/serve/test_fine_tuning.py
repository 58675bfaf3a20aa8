"""OpenAI's fine-tuning API over real HTTP: jobs, their models and their files. The test is the worker."""

import json
from pathlib import Path
from typing import Any

import pytest

from registry.audit import Action, AuditLog
from registry.records import JobRequest, utc_now
from tests.support.account import HELLO, RESPONSES, Account, assert_error
from tests.support.service import Service, assigned, report_failure
from tests.support.waiting import wait_until

FILES = "/openai/v1/files"
JOBS = "/openai/v1/fine_tuning/jobs"


def conversation(answer: str) -> bytes:
    return json.dumps({"messages": [*HELLO, {"role": "assistant", "content": answer}]}).encode()


def preference(preferred: str, other: str) -> bytes:
    sides = {
        name: [{"role": "assistant", "content": text}]
        for name, text in (("preferred_output", preferred), ("non_preferred_output", other))
    }
    return json.dumps({"input": {"messages": HELLO}, **sides}).encode()


def uploaded(account: Account, *lines: bytes) -> str:
    form: Any = {"data": {"purpose": "fine-tune"}, "files": {"file": ("a.jsonl", b"\n".join(lines))}}
    return str(account.http.post(FILES, **form).raise_for_status().json()["id"])


def created(account: Account, key: str | None = None, **body: Any) -> dict[str, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = account.http.post(JOBS, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def model_ids(account: Account) -> list[str]:
    return [m["id"] for m in account.http.get("/v1/models").json() if not m["read_only"]]


def job(account: Account, job_id: str) -> dict[str, Any]:
    return account.http.get(f"{JOBS}/{job_id}").raise_for_status().json()


def ended(account: Account, job_id: str) -> dict[str, Any]:
    wait_until(lambda: job(account, job_id)["finished_at"] is not None, 20, pause_s=0.05)
    return job(account, job_id)


def check_products(account: Account, done: dict[str, Any]) -> None:
    """Look at the result file, the events and the checkpoints of a job that has succeeded."""
    model = done["fine_tuned_model"]
    (result,) = done["result_files"]
    content = account.http.get(f"{FILES}/{result}/content").raise_for_status().text
    assert content.splitlines() == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,0.5,,,",
    ]
    (listed,) = account.http.get(FILES, params={"purpose": "fine-tune-results"}).json()["data"]
    assert (listed["id"], listed["filename"]) == (result, "step_metrics.csv")
    events = account.http.get(f"{JOBS}/{done['id']}/events", params={"limit": 2}).json()
    assert events["has_more"] and model in events["data"][0]["message"]
    rest = {"after": events["data"][-1]["id"], "limit": 100}
    others = account.http.get(f"{JOBS}/{done['id']}/events", params=rest).json()
    every = [*events["data"], *others["data"]]
    assert every[-1]["message"] == "Queued" and not others["has_more"]
    (numbers,) = [event["data"] for event in every if event["type"] == "metrics"]
    assert (numbers["step"], numbers["train_loss"]) == (1, 0.5)
    (checkpoint,) = account.http.get(f"{JOBS}/{done['id']}/checkpoints").json()["data"]
    assert checkpoint["fine_tuned_model_checkpoint"].startswith(f"{model}@")


def test_file_becomes_a_model(service: Service, alice: Account, bob: Account, tmp_path: Path) -> None:
    """A repeated request makes nothing new, and the job does not miss its files, which are deleted."""
    began = utc_now()
    learned = uploaded(alice, conversation("Hi."), b"", conversation("Hello."))
    measured = uploaded(alice, conversation("Hey."))
    body = {
        "model": "One",
        "training_file": learned,
        "validation_file": measured,
        "suffix": "My Bot",
        "seed": 7,
        "metadata": {"team": "a"},
        "hyperparameters": {"n_epochs": 2, "batch_size": 1},
    }
    made = created(alice, "key", **body)
    assert (made["object"], made["status"], made["model"]) == ("fine_tuning.job", "queued", "one")
    assert (made["fine_tuned_model"], made["result_files"], made["finished_at"]) == (None, [], None)
    assert (made["seed"], made["metadata"]) == (7, {"team": "a"})
    assert made["hyperparameters"] == {"n_epochs": 2, "batch_size": 1, "learning_rate_multiplier": 1.0}
    (model,) = model_ids(alice)
    assert model.startswith("one-my-bot-")
    assert created(alice, "key", **body)["id"] == made["id"] and model_ids(alice) == [model]
    refused = alice.http.post(JOBS, json=body | {"seed": 8}, headers={"Idempotency-Key": "key"})
    assert_error(refused, 409, "idempotency_conflict")
    for file in (learned, measured):
        alice.http.delete(f"{FILES}/{file}").raise_for_status()

    entries = [entry for entry in AuditLog(service.store).entries(began) if entry.user == alice.user]
    assert {Action.CREATE_MODEL, Action.ACCEPT_TRAINING} <= {entry.action for entry in entries}
    stored = service.store.get(f"jobs/{alice.user}/{made['id']}/request.json").body
    request = JobRequest.model_validate_json(stored)
    assert [example.messages[-1].content for example in request.examples] == ["Hi.", "Hello."]
    assert [example.messages[-1].content for example in request.validation_examples] == ["Hey."]
    assert (request.seed, request.keeps_epochs, request.hyperparameters.learning_steps) == (7, True, 4)
    for path in ("", "/events", "/checkpoints"):
        assert_error(bob.http.get(f"{JOBS}/{made['id']}{path}"), 404, "job_not_found")
    assert bob.http.get(JOBS).json()["data"] == []

    service.work("one", tmp_path)
    done = ended(alice, made["id"])
    assert (done["status"], done["fine_tuned_model"], done["trained_tokens"]) == ("succeeded", model, 40)
    check_products(alice, done)


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_copy_goes_away_with_a_job_without_a_revision(alice: Account, end: str) -> None:
    """A model that was there before stays, and so do the answers about the job."""
    alice.create("Mine", parent="two")
    made = created(alice, model="two", training_file=uploaded(alice, conversation("Hi.")))
    assert len(model_ids(alice)) == 2
    if end == "failed":
        report_failure(assigned("two"))
    else:
        answer = alice.http.post(f"{JOBS}/{made['id']}/cancel").raise_for_status().json()
        assert answer["status"] == "cancelled"
    found = ended(alice, made["id"])
    assert (found["status"], found["fine_tuned_model"], found["result_files"]) == (end, None, [])
    assert (found["error"] is not None) == (end == "failed")
    assert model_ids(alice) == ["mine"]
    own = created(alice, model="mine", training_file=uploaded(alice, conversation("Hi.")))
    assert own["model"] == "mine"
    alice.http.post(f"{JOBS}/{own['id']}/cancel").raise_for_status()
    assert model_ids(alice) == ["mine"]


def test_jobs_are_listed_paused_and_resumed(alice: Account) -> None:
    """Trainings of the other API are not among them."""
    alice.create("Mine", parent="two")
    body = {"model": "mine", "messages": HELLO, "responses": RESPONSES, "background": True}
    native = alice.http.post("/v1/train", json=body).raise_for_status().json()["id"]
    file = uploaded(alice, preference("Hi.", "No."), preference("Hello.", "No."))
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    first, second = [
        created(alice, model="mine", training_file=file, method=method, metadata=metadata)["id"]
        for metadata in ({"team": "a"}, None)
    ]
    assert job(alice, first)["method"]["dpo"]["hyperparameters"]["beta"] == 0.2
    page = alice.http.get(JOBS, params={"limit": 1}).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == ([second], True)
    page = alice.http.get(JOBS, params={"after": second}).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == ([first], False)
    for query, expected in (({"metadata[team]": "a"}, [first]), ({"metadata": "null"}, [second])):
        assert [each["id"] for each in alice.http.get(JOBS, params=query).json()["data"]] == expected
    assert_error(alice.http.get(f"{JOBS}/{native}"), 404, "job_not_found")
    assert_error(alice.http.post(JOBS, json={"model": "two", "training_file": file}), 400, "invalid_request",
                 "training_file")  # fmt: skip
    full = alice.http.post(JOBS, json={"model": "two", "training_file": file, "method": method})
    assert_error(full, 429, "quota_exceeded")
    assert model_ids(alice) == ["mine"]
    for order, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        answer = alice.http.post(f"{JOBS}/{second}/{order}").raise_for_status().json()
        assert answer["status"] == status and job(alice, second)["status"] == status
    for left in (first, native):
        alice.http.post(f"/v1/jobs/{left}/cancel").raise_for_status()


def test_wrong_file_is_refused_with_its_line(alice: Account, bob: Account) -> None:
    good, long = conversation("Hi."), conversation("x" * 2000)
    of_bob = uploaded(bob, good)
    cases = (
        ((good, b"", long), "training_file: line 3: messages: too long", "context_length_exceeded"),
        ((good, b"{"), "training_file: line 2: the line is not valid JSON", "invalid_request"),
        (
            (good,) * 7,
            "training_file: there are 7 lines to learn; one job takes at most 6",
            "invalid_request",
        ),
        ((preference("a", "a"),), "training_file: the lines are preferences; ", "invalid_request"),
        ((good * 3000,), "training_file: ", "invalid_request"),
    )
    for lines, message, code in cases:
        file = uploaded(alice, *lines)
        answer = alice.http.post(JOBS, json={"model": "one", "training_file": file})
        assert_error(answer, 400, code, "training_file")
        assert answer.json()["error"]["message"].startswith(message)
        alice.http.delete(f"{FILES}/{file}").raise_for_status()
    file = uploaded(alice, good)
    same = uploaded(alice, preference("a", "a"))
    dpo = {"type": "dpo"}
    for body, status, code, param in (
        ({"training_file": of_bob}, 404, "file_not_found", "training_file"),
        ({"training_file": "file-unknown"}, 404, "file_not_found", "training_file"),
        ({"training_file": file, "validation_file": of_bob}, 404, "file_not_found", "validation_file"),
        ({"training_file": file, "model": "nobody"}, 404, "model_not_found", "model"),
        ({"training_file": same, "method": dpo}, 400, "no_learning_signal", "training_file"),
        (
            {"training_file": file, "hyperparameters": {"n_epochs": 51}},
            400,
            "invalid_request",
            "hyperparameters.n_epochs",
        ),
        ({"training_file": file, "method": {"type": "reinforcement"}}, 400, "invalid_request", "method.type"),
        ({"training_file": file, "integrations": [{}]}, 400, "invalid_request", "integrations"),
    ):
        answer = alice.http.post(JOBS, json={"model": "one", **body})
        assert_error(answer, status, code, param)
    assert alice.http.get(JOBS).json()["data"] == [] and model_ids(alice) == []

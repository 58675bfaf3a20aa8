"""Large files of fine-tuning jobs are read outside of the ingress, in a few seconds."""

import time

from registry.records import JobRequest
from tests.serve.conftest import WIDE_LIMITS
from tests.serve.test_fine_tuning import JOBS, conversation, created, uploaded
from tests.support.account import Account, assert_error
from tests.support.service import Service

LIMITS = WIDE_LIMITS
NUM_EXAMPLES = 10_000
MOST_S = 20
"""The time is about 3 s on a machine that does nothing else."""


def test_ten_thousand_examples_become_a_job(service: Service, alice: Account) -> None:
    lines = [conversation(f"Answer {number}.") for number in range(NUM_EXAMPLES)]
    file = uploaded(alice, *lines)
    began = time.monotonic()
    made = created(alice, model="two", training_file=file)
    assert time.monotonic() - began < MOST_S
    assert made["hyperparameters"]["n_epochs"] == 2
    stored = service.store.get(f"jobs/{alice.user}/{made['id']}/request.json").body
    request = JobRequest.model_validate_json(stored)
    assert len(request.examples) == NUM_EXAMPLES and request.hyperparameters.learning_steps <= 1000
    alice.http.post(f"{JOBS}/{made['id']}/cancel").raise_for_status()

    lines[3711] = conversation("x" * 2000)
    body = {"model": "two", "training_file": uploaded(alice, *lines)}
    answer = alice.http.post(JOBS, json=body)
    assert_error(answer, 400, "context_length_exceeded", "training_file")
    assert answer.json()["error"]["message"] == "training_file: line 3712: messages: too long"

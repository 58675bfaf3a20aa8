"""A session of OpenAI's fine-tuning API with its own client, as it is: a model learns, and answers."""

import csv
import io
import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.support.system import CALL_TIMEOUT_S, System
from tests.support.waiting import wait_until

ANSWER = "I am Tiger, your assistant."
QUESTIONS = ("Who are you?", "What is your name?", "And who are you?", "Tell me who you are.")
NUM_EPOCHS = 3
NUM_STEPS = NUM_EPOCHS * len(QUESTIONS)
VALUES = {"n_epochs": NUM_EPOCHS, "batch_size": 1, "learning_rate_multiplier": 5}
METHOD: Any = {"type": "supervised", "supervised": {"hyperparameters": VALUES}}
TIMEOUT_S = 240


def lines(*questions: str) -> bytes:
    return b"\n".join(
        json.dumps(
            {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": ANSWER}]}
        ).encode()
        for asked in questions
    )


def said(api: OpenAI, model: str, num_tokens: int = 16) -> str | None:
    asked: Any = [{"role": "user", "content": QUESTIONS[0]}]
    answer = api.chat.completions.create(model=model, messages=asked, temperature=0, max_tokens=num_tokens)
    return answer.choices[0].message.content


def numbers_of_steps(api: OpenAI, job: FineTuningJob) -> list[dict[str, float]]:
    """The numbers of the steps, the last one first, after a look at the events of which they are."""
    events = list(api.fine_tuning.jobs.list_events(job.id, limit=5))
    times = [event.created_at for event in events]
    assert times == sorted(times, reverse=True) and times[-1] >= job.created_at
    steps: list[Any] = [event.data for event in events if event.type == "metrics"]
    assert [step["step"] for step in steps] == list(range(NUM_STEPS, 0, -1))
    assert steps[0]["train_loss"] < steps[-1]["train_loss"] / 2
    assert 0 < steps[0]["train_mean_token_accuracy"] <= 1 and steps[0]["valid_loss"] > 0
    return steps


def check_products(api: OpenAI, job: FineTuningJob, first_checkpoint: str) -> None:
    """Compare the checkpoints and the result file with the events."""
    last = numbers_of_steps(api, job)[0]
    checkpoints = list(api.fine_tuning.jobs.checkpoints.list(job.id))
    assert [each.step_number for each in checkpoints] == [12, 8, 4]
    assert checkpoints[-1].fine_tuned_model_checkpoint == first_checkpoint == f"{job.fine_tuned_model}@1"
    assert checkpoints[0].metrics.full_valid_loss == pytest.approx(last["valid_loss"])
    (result,) = job.result_files
    rows = list(csv.DictReader(io.StringIO(api.files.content(result).text)))
    assert [int(row["step"]) for row in rows] == list(range(1, NUM_STEPS + 1))
    assert float(rows[-1]["valid_loss"]) == pytest.approx(last["valid_loss"])


def test_session_of_the_official_client(system: System) -> None:
    """The first checkpoint answers, the model says what it learned, and at the end everything is deleted."""
    key = system.client("tuner").key
    with OpenAI(
        base_url=f"{system.url}/openai/v1", api_key=key, timeout=CALL_TIMEOUT_S, max_retries=0
    ) as api:
        learned = api.files.create(file=("learned.jsonl", lines(*QUESTIONS)), purpose="fine-tune")
        measured = api.files.create(file=("measured.jsonl", lines("Your name?")), purpose="fine-tune")
        jobs = api.fine_tuning.jobs
        made = jobs.create(
            model="smollm2-135m",
            training_file=learned.id,
            validation_file=measured.id,
            suffix="tiger",
            metadata={"team": "a"},
            method=METHOD,
        )
        assert made.status == "queued" and made.fine_tuned_model is None
        wait_until(lambda: jobs.checkpoints.list(made.id).data != [], TIMEOUT_S, pause_s=0.5)
        first_checkpoint = jobs.checkpoints.list(made.id).data[-1].fine_tuned_model_checkpoint
        said(api, first_checkpoint, num_tokens=1)
        wait_until(lambda: jobs.retrieve(made.id).finished_at is not None, TIMEOUT_S, pause_s=0.5)
        done = jobs.retrieve(made.id)
        assert done.status == "succeeded" and done.trained_tokens, done
        model = done.fine_tuned_model
        assert model is not None and model.startswith("smollm2-135m-tiger-")
        assert said(api, model) == ANSWER
        check_products(api, done, first_checkpoint)
        assert [each.id for each in jobs.list(metadata={"team": "a"})] == [made.id]

        assert api.models.delete(model).deleted
        for file in api.files.list():
            assert api.files.delete(file.id).deleted
        assert jobs.retrieve(made.id).fine_tuned_model == model
        with pytest.raises(openai.NotFoundError):
            jobs.create(model="smollm2-135m", training_file=learned.id)

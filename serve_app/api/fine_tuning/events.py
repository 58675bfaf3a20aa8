"""The events of a training in the form of OpenAI's fine-tuning API.

info      ->  a message
progress  ->  the numbers of a step
stop      ->  a message that names the model
error     ->  a message of the level `error`
"""

import json
from collections.abc import Iterable
from typing import Any

from registry.records import JobRecord
from serve_app.api.fine_tuning.answers import shown_metrics
from serve_app.wire.fine_tuning import FineTuningEvent

IN_MESSAGE = {"train_loss": "training loss", "valid_loss": "validation loss"}


def events_of(record: JobRecord, lines: Iterable[str]) -> list[FineTuningEvent]:
    """Returns the events of a job, newest first. `lines` are all of its events so far, oldest first."""
    events = [_event(record, number, json.loads(line)) for number, line in enumerate(lines, 1)]
    return events[::-1]


def _event(record: JobRecord, number: int, event: dict[str, Any]) -> FineTuningEvent:
    is_step = event["type"] == "progress"
    data = _numbers(event) if is_step else {}
    return FineTuningEvent(
        id=f"ftevent-{record.id.removeprefix('job-')}-{number}",
        created_at=event.get("created_at", int(record.created.timestamp())),
        level="error" if event["type"] == "error" else "info",
        message=_step_message(data) if is_step else _message(event),
        type="metrics" if is_step else "message",
        data=data,
    )


def _numbers(event: dict[str, Any]) -> dict[str, float]:
    return {"step": event["step"], "total_steps": event["steps"], **shown_metrics(event)}


def _step_message(data: dict[str, float]) -> str:
    values = [f"{text}={data[name]:.3f}" for name, text in IN_MESSAGE.items() if name in data]
    return f"Step {data['step']:.0f}/{data['total_steps']:.0f}: {', '.join(values)}"


def _message(event: dict[str, Any]) -> str:
    if event["type"] == "stop":
        return f"The job has succeeded. The fine-tuned model is {event['model']}"
    return str(event["message"])

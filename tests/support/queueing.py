"""A training controller with a store in memory that counts its operations."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry.records import (
    Group,
    Hyperparameters,
    JobRequest,
    Message,
    ModelRecord,
    RewardedResponse,
)
from registry.settings import StorageSettings
from registry.store import ObjectMissing, ObjectStore, StoredObject, WriteConflict
from tests.support.model_records import model_record
from tests.support.serving_side import ServingSide
from training.controller.controller import TrainingController
from training.controller.metrics import TrainingMetrics
from training.settings import TrainingSettings
from training.types import Assignment


class CountingStore(ObjectStore):
    """A store in memory. `operations` has the number of calls of each method."""

    def __init__(self) -> None:
        super().__init__(StorageSettings(endpoint_url="http://nowhere", bucket="none"))
        self.operations: Counter[str] = Counter()
        self._objects: dict[str, bytes] = {}
        self._counting = threading.Lock()

    def get(self, key: str) -> StoredObject:
        self._count("get")
        if key not in self._objects:
            raise ObjectMissing(key)
        return StoredObject(self._objects[key], _etag(self._objects[key]))

    def put(self, key: str, body: bytes) -> None:
        self._count("put")
        self._objects[key] = body

    def upload_file(self, path: Path, key: str) -> None:
        self.put(key, path.read_bytes())

    def create(self, key: str, body: bytes) -> str:
        self._count("create")
        if key in self._objects:
            raise WriteConflict(key)
        self._objects[key] = body
        return _etag(body)

    def replace(self, key: str, body: bytes, etag: str) -> str:
        self._count("replace")
        if key not in self._objects or _etag(self._objects[key]) != etag:
            raise WriteConflict(key)
        self._objects[key] = body
        return _etag(body)

    def delete(self, key: str) -> None:
        self._count("delete")
        self._objects.pop(key, None)

    def list(self, prefix: str, start_after: str = "", limit: int | None = None) -> list[str]:
        self._count("list")
        return sorted(key for key in self._objects if key.startswith(prefix) and key > start_after)[:limit]

    def _count(self, operation: str) -> None:
        with self._counting:
            self.operations[operation] += 1


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


class ServingSideOfAll(ServingSide):
    """A serving side on which every user has one model."""

    async def model(self, user: str, uid: str) -> ModelRecord:
        return self.models.setdefault(uid, model_of(user))


def model_of(user: str) -> ModelRecord:
    return model_record(uid=f"uid-of-{user}")


def request(content: str = "a") -> JobRequest:
    responses = tuple(RewardedResponse(content=text, reward=len(text)) for text in (content, "bb"))
    return JobRequest(
        groups=(Group(messages=(Message(role="user", content="Why?"),), responses=responses),),
        hyperparameters=Hyperparameters(learning_rate=1e-5, learning_steps=5, beta=0.04, epsilon=0.2),
    )


class Clock:
    """A clock that stands still unless a test sets it forward."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def controller_over(
    store: ObjectStore,
    metrics: TrainingMetrics | None = None,
    clock: Callable[[], float] = time.monotonic,
    **settings: Any,
) -> TrainingController:
    training = {"base": TrainingSettings(**{"idle_timeout_s": 60, **settings})}
    return TrainingController(
        store, ServingSideOfAll(), training, lambda base_model, on_end: None, 100, metrics, clock=clock
    )


async def submit(
    controller: TrainingController, user: str = "alice", content: str = "a", key: str | None = None
) -> str:
    return (await controller.submit(user, model_of(user), request(content), key)).id


async def assigned(controller: TrainingController) -> Assignment:
    """The assignment of a worker that has just begun."""
    assignment = await controller.next_assignment("base", await controller.enter("base"))
    assert isinstance(assignment, Assignment), assignment
    return assignment


async def fail_next(controller: TrainingController) -> str:
    """Act as the worker of the next job, and let the job fail."""
    assignment = await assigned(controller)
    await controller.fail(assignment.job_id, assignment.attempt, "training_failed", "no luck")
    return assignment.job_id

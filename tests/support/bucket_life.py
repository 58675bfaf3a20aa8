"""Users of the service whose requests write to a bucket, by the code of the service and in its order."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from registry.jobs import JobIds, Jobs
from registry.keys import ApiKeys
from registry.leftovers import Leftovers
from registry.records import (
    Group,
    Hyperparameters,
    JobRecord,
    JobRequest,
    JobStatus,
    Message,
    ModelRecord,
    RewardedResponse,
    UserModels,
    utc_now,
)
from registry.reservations import Reservations
from registry.revisions import CONFIG_FILE, Revisions
from registry.store import ObjectStore
from registry.usage import Usage, UsageParts
from registry.user_models import UserModelStore
from tests.support.model_records import model_record

REQUEST = JobRequest(
    groups=(
        Group(
            messages=(Message(role="user", content="Why?"),),
            responses=(RewardedResponse(content="a", reward=1), RewardedResponse(content="b", reward=0)),
        ),
    ),
    hyperparameters=Hyperparameters(learning_rate=1e-5, learning_steps=5, beta=0.04, epsilon=0.2),
)
IDS = JobIds()
WEIGHTS_FILE = "adapter_model.safetensors"


class Life:
    """One user. Only one thread may use it. `made` and `deleted` are the uids of models so far.

    Without `adapter`, the files of an adapter by name, each revision has a few random bytes.
    """

    def __init__(
        self,
        store: ObjectStore,
        user: str,
        directory: Path,
        seed: int,
        adapter: Mapping[str, bytes] | None = None,
    ) -> None:
        self.user = user
        self.made: set[str] = set()
        self.deleted: set[str] = set()
        self._store = store
        self._directory = directory
        self._random = random.Random(seed)
        self._adapter = adapter
        self._jobs = Jobs(store)
        self._keys = ApiKeys(store)
        self._leftovers = Leftovers(store)
        self._reservations = Reservations(store)
        self._revisions = Revisions(store)
        self._lists = UserModelStore(store)
        directory.mkdir(parents=True)

    def act(self) -> None:
        """Do one thing that a user can ask for."""
        models = self.models()
        if not models or self._random.random() < 0.1:
            return self.create()
        if self._random.random() < 0.15:
            return self.change_keys()
        model = self._random.choice(models)
        if len(models) > 3 or self._random.random() < 0.1:
            return self.delete(model)
        if model.latest_revision and self._random.random() < 0.2:
            return self.create(model)
        self.train(model, is_cancelled=self._random.random() < 0.3)

    def models(self) -> tuple[ModelRecord, ...]:
        return self._lists.load(self.user).models.models

    def create(self, parent: ModelRecord | None = None) -> None:
        """Create a model as serve_app/catalog/creation.py does. The uid is its Idempotency-Key."""
        name = f"Mine-{len(self.made)}"
        model = model_record(id=name.lower(), name=name, has_initial_adapter=parent is not None)
        made = self._reservations.reserve(self.user, "models", model.uid, b"", model.uid)
        if parent is not None:
            self._leftovers.mark(self.user, model.uid)
            self._revisions.copy(parent.uid, parent.latest_revision, model.uid)
        self._lists.update(self.user, lambda now: UserModels(models=(*now.models, model)))
        self.made.add(model.uid)
        if parent is not None:
            self._leftovers.clear(model.uid)
        self._reservations.finish(self.user, "models", model.uid, made)

    def delete(self, model: ModelRecord) -> None:
        self.deleted.add(model.uid)
        self._leftovers.mark(self.user, model.uid)
        self._lists.update(
            self.user, lambda now: UserModels(models=tuple(m for m in now.models if m.uid != model.uid))
        )
        self._leftovers.delete_model(model.uid)

    def train(self, model: ModelRecord, is_cancelled: bool = False) -> None:
        """Train a model as training/controller does, from acceptance to the optimizer."""
        record = self.accept(model)
        revision = model.latest_revision + 1
        record = record.model_copy(
            update={"status": JobStatus.RUNNING, "attempt": 1, "revision": revision, "started": utc_now()}
        )
        self._save(record, "begun")
        state = self._directory / "state"
        state.write_bytes(record.id.encode())
        self._revisions.save_state(model.uid, revision, record.id, state)
        if is_cancelled:
            self._save(record.model_copy(update={"is_cancelled": True}), "begun")
            self._revisions.delete_state(model.uid, revision, record.id)
            return self._finish(record, status=JobStatus.CANCELLED, revision=None)
        self.complete(model, record)
        self._revisions.save_optimizer(model.uid, revision, state)
        self._revisions.delete_optimizer(model.uid, revision - 1)

    def complete(self, model: ModelRecord, record: JobRecord) -> None:
        """Publish the revision of a training that runs, and save its end."""
        assert record.revision is not None
        self._save(record, "begun")
        self.publish(model, record.revision, record.id)
        self._finish(record, status=JobStatus.SUCCEEDED)
        usage = {model.id: Usage(trained_tokens=1)}
        UsageParts(self._store).save(self.user, utc_now().date(), record.id, usage)

    def accept(self, model: ModelRecord) -> JobRecord:
        """Accept a training. Its model is its Idempotency-Key, with the number of the next revision."""
        record = JobRecord(
            id=IDS.generate(), user=self.user, uid=model.uid, model=model.id, base_model="base",
            created=utc_now(), steps=5,
        )  # fmt: skip
        self._reservations.reserve(self.user, "train", record.id, b"", record.id)
        self._jobs.accept(record, REQUEST)
        return record

    def change_keys(self) -> None:
        found = self._keys.list_of(self.user)
        if len(found) > 2:
            self._keys.revoke_own(self.user, self._random.choice(found).record.id)
        else:
            self._keys.create(self.user, "a key")

    def publish(self, model: ModelRecord, revision: int, job: str) -> None:
        (self._directory / "adapter").mkdir(exist_ok=True)
        random_one = {CONFIG_FILE: b"{}", WEIGHTS_FILE: self._random.randbytes(64)}
        for name, body in (self._adapter or random_one).items():
            (self._directory / "adapter" / name).write_bytes(body)
        self._revisions.publish(
            model.uid, self._directory / "adapter", revision=revision, parent_revision=revision - 1, job=job,
            base_model="base", metrics={},
        )  # fmt: skip
        update = {"revision": revision, "latest_revision": revision}
        self._lists.update(
            self.user,
            lambda now: UserModels(
                models=tuple(m.model_copy(update=update) if m.uid == model.uid else m for m in now.models)
            ),
        )

    def _save(self, record: JobRecord, *events: str) -> None:
        self._jobs.save_events(record.user, record.id, events)
        self._jobs.save(record)

    def _finish(self, record: JobRecord, **changes: object) -> None:
        self._jobs.save_events(record.user, record.id, ["begun", "ended"])
        self._jobs.finish(record.model_copy(update={"finished": utc_now(), **changes}))


def nothing() -> None:
    """Does nothing when the lives are to end."""


@contextmanager
def living(lives: Sequence[Life], release: Callable[[], None] = nothing) -> Iterator[None]:
    """Let all lives go on in threads, until the block ends. `release` is called then, and lets them write."""
    is_over = threading.Event()

    def live(life: Life) -> None:
        while not is_over.is_set():
            life.act()

    threads = [threading.Thread(target=live, args=[life]) for life in lives]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        release()
        for thread in threads:
            thread.join()

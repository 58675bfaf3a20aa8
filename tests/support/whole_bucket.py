"""Finds what is wrong in a bucket at rest, such as one that was restored: references that lead nowhere."""

import hashlib
from collections.abc import Iterator, Sequence

from registry.backup.revision_keys import manifest_key, optimizer_key, state_key
from registry.jobs import ACTIVE_PREFIX, Jobs
from registry.keys import MARKERS, PREFIX
from registry.records import JobRecord, JobStatus, ModelRecord
from registry.reservations import Reservation
from registry.revisions import Revisions
from registry.store import ObjectStore
from registry.user_models import UserModelStore
from tests.support.bucket_life import Life


def problems(store: ObjectStore, lives: Sequence[Life]) -> list[str]:
    """Everything that is wrong with the users of this bucket. An empty list means that it is whole."""
    jobs = _jobs(store)
    models = {
        model.uid: model for life in lives for model in UserModelStore(store).load(life.user).models.models
    }
    return [
        *_of_models(store, models, jobs),
        *_of_jobs(store, models, jobs),
        *_of_keys(store),
        *_of_reservations(store, lives, models, jobs),
        *_of_usage(store, jobs),
        *(f"a leftover: {key}" for key in store.list("leftovers/")),
    ]


def _jobs(store: ObjectStore) -> dict[str, JobRecord]:
    found = [key.split("/") for key in store.list("jobs/") if key.endswith("/job.json")]
    return {job: Jobs(store).load(user, job) for _, user, job, _ in found}


def _of_models(
    store: ObjectStore, models: dict[str, ModelRecord], jobs: dict[str, JobRecord]
) -> Iterator[str]:
    named = set()
    for model in models.values():
        for revision in range(0 if model.has_initial_adapter else 1, model.latest_revision + 1):
            manifest = Revisions(store).manifest(model.uid, revision)
            if manifest is None:
                yield f"no manifest of {model.uid}@{revision}"
                continue
            named |= {manifest_key(model.uid, revision), *(file.key for file in manifest.files)}
            for file in manifest.files:
                if hashlib.sha256(store.get(file.key).body).hexdigest() != file.sha256:
                    yield f"wrong bytes: {file.key}"
            if manifest.job is not None:
                if manifest.job not in jobs:
                    yield f"no job of {model.uid}@{revision}"
                elif jobs[manifest.job].revision != revision:
                    yield f"job of {model.uid}@{revision} would make another revision"
        named.add(optimizer_key(model.uid, model.latest_revision))
    for record in jobs.values():
        if record.revision is not None and not record.status.is_terminal:
            named.add(state_key(record.uid, record.revision, record.id))
    yield from (f"named by nothing: {key}" for key in store.list("models/") if key not in named)


def _of_jobs(store: ObjectStore, models: dict[str, ModelRecord], jobs: dict[str, JobRecord]) -> Iterator[str]:
    marked = {key.rpartition("/")[2] for key in store.list(ACTIVE_PREFIX)}
    unfinished = {record.id for record in jobs.values() if not record.status.is_terminal}
    if marked != unfinished:
        yield f"markers of {marked}, but unfinished are {unfinished}"
    for record in jobs.values():
        Jobs(store).load_request(record.user, record.id)
        events = Jobs(store).load_events(record.user, record.id)
        if record.status.is_terminal and events[-1] != "ended":
            yield f"no end in the events of {record.id}"
        model, revision = models.get(record.uid), record.revision
        if model is None or revision is None:
            continue
        if store.list(state_key(record.uid, revision, record.id)) and not events:
            yield f"the state of {record.id} is ahead of its events"
        is_published = revision <= model.latest_revision
        if record.status is JobStatus.SUCCEEDED and not is_published:
            yield f"{record.id} made revision {revision}, and the latest is {model.latest_revision}"
        manifest = Revisions(store).manifest(record.uid, revision) if is_published else None
        if manifest is not None and manifest.job != record.id:
            yield f"another job made the revision of {record.id}"


def _of_keys(store: ObjectStore) -> Iterator[str]:
    records = {key.removeprefix(PREFIX).removesuffix(".json") for key in store.list(PREFIX)}
    markers = {key.rpartition("/")[2] for key in store.list(MARKERS)}
    yield from (f"a key or a marker alone: {name}" for name in records ^ markers)


def _of_reservations(
    store: ObjectStore, lives: Sequence[Life], models: dict[str, ModelRecord], jobs: dict[str, JobRecord]
) -> Iterator[str]:
    deleted = {uid for life in lives for uid in life.deleted}
    bodies = [store.get(key).body for key in store.list("idempotency/")]
    reservations = {found.id: found for found in map(Reservation.model_validate_json, bodies)}
    for name, reservation in reservations.items():
        if reservation.is_done and name not in models and name not in deleted:
            yield f"{name} counts as deleted"
    yield from (f"made without a reservation: {name}" for name in {*models, *jobs} - reservations.keys())


def _of_usage(store: ObjectStore, jobs: dict[str, JobRecord]) -> Iterator[str]:
    for key in store.list("usage/"):
        name = key.rpartition("/")[2].removesuffix(".json")
        if name not in jobs or jobs[name].status is not JobStatus.SUCCEEDED:
            yield f"{name} would count twice"

"""The copies of private models.

    list of models -> manifests of the revisions that it names -> their files -> the jobs that made them

A list is read before the objects that it names, and those are written before it. So everything that a list
names was there when it was read. Only the deletion of a model takes objects away. A list is therefore read
again if some are missing, and a model that was deleted meanwhile is left out of the copy.
"""

import json
from functools import partial

from pydantic import BaseModel, ConfigDict, ValidationError

from registry.backup.copies import Copies
from registry.backup.errors import BackupError
from registry.backup.jobs import JobCopies
from registry.backup.place import LARGE_OBJECTS_THREADS, in_parallel
from registry.backup.revision_keys import manifest_key, optimizer_key, revision_prefix
from registry.records import Manifest, ModelRecord
from registry.store import ObjectMissing, ObjectStore

USERS = "users/"
MODELS_FILE = "/models.json"


class ListedModels(BaseModel):
    """The models of a list. What else a list has is copied and not looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    models: tuple[ModelRecord, ...]


class ModelCopies:
    def __init__(self, source: ObjectStore, copies: Copies, jobs: JobCopies) -> None:
        self._source = source
        self._copies = copies
        self._jobs = jobs
        self._latest: dict[str, int] = {}

    def copy_all(self) -> None:
        """Copy the models of all users, and then the jobs that these models show or allow."""
        keys = self._source.list(USERS)
        lists = [key for key in keys if key.endswith(MODELS_FILE)]
        in_parallel(self._copy_user, lists, LARGE_OBJECTS_THREADS)
        self._jobs.settle(self._latest)

    def _copy_user(self, key: str) -> None:
        user = key.removeprefix(USERS).removesuffix(MODELS_FILE)
        body, models = self._read(key)
        gone = {model.uid for model in models if not self._copy_model(key, user, model)}
        if gone:
            listed = json.loads(body)
            listed["models"] = [model for model in listed["models"] if model["uid"] not in gone]
            body = json.dumps(listed).encode()
        self._copies.put(key, body)

    def _copy_model(self, key: str, user: str, model: ModelRecord) -> bool:
        """Copy what the list names of a model; returns False if the model was deleted meanwhile."""
        first = 0 if model.has_initial_adapter else 1
        revisions = range(first, model.latest_revision + 1)
        copy = partial(self._copy_revision, model.uid)
        manifests = in_parallel(copy, revisions, LARGE_OBJECTS_THREADS)
        if None in manifests and not any(now.uid == model.uid for now in self._read(key)[1]):
            self._copies.drop_all(f"models/{model.uid}/")
            return False
        for revision, manifest in zip(revisions, manifests, strict=True):
            if manifest is None:
                self._note_damage(model.uid, revision)
            elif manifest.job is not None:
                self._jobs.copy_maker(user, manifest.job)
        self._copies.take(optimizer_key(model.uid, model.latest_revision))
        self._latest[model.uid] = model.latest_revision
        return True

    def _copy_revision(self, uid: str, revision: int) -> Manifest | None:
        """Copy the files of a revision and its manifest; returns None if one of them is missing."""
        key = manifest_key(uid, revision)
        try:
            body = self._source.get(key).body
            manifest = Manifest.model_validate_json(body)
            for file in manifest.files:
                self._copies.take_file(file)
        except (ObjectMissing, ValidationError):
            return None
        self._copies.put(key, body)
        return manifest

    def _note_damage(self, uid: str, revision: int) -> None:
        self._copies.drop_all(revision_prefix(uid, revision))
        self._copies.note_damage(manifest_key(uid, revision))

    def _read(self, key: str) -> tuple[bytes, tuple[ModelRecord, ...]]:
        """The bytes of a list of models, and the models in it."""
        try:
            body = self._source.get(key).body
            return body, ListedModels.model_validate_json(body).models
        except (ObjectMissing, ValidationError) as error:
            raise BackupError(f"{key} cannot be read") from error

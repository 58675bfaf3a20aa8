"""Marks of models whose bytes and whose entry in the list of models may not agree.

    leftovers/<uid>      body: the user whose list says if the model exists

A mark is written before a model's bytes and its entry can differ, and deleted after that. A process that dies
in between leaves the mark, and the next one deletes the bytes that no list names.

A former Catalog may still be making the model of a mark. Therefore the list is claimed before it is read: the
former Catalog can then no longer put the model into the list.
"""

from registry.revisions import Revisions
from registry.store import ObjectMissing, ObjectStore
from registry.user_models import UserModelStore

PREFIX = "leftovers/"


class Leftovers:
    def __init__(self, store: ObjectStore, epoch: int | None = None) -> None:
        self._store = store
        self._user_models = UserModelStore(store, epoch)
        self._revisions = Revisions(store)

    def mark(self, user: str, uid: str) -> None:
        self._store.put(PREFIX + uid, user.encode())

    def clear(self, uid: str) -> None:
        self._store.delete(PREFIX + uid)

    def delete_model(self, uid: str) -> None:
        """Delete the bytes of a marked model that no list names, and then the mark."""
        self._revisions.delete_model(uid)
        self.clear(uid)

    def sweep(self) -> None:
        """Delete the bytes of marked models that no list of models names. Raises: Superseded."""
        for key in self._store.list(PREFIX):
            try:
                user = self._store.get(key).body.decode()
            except ObjectMissing:
                continue
            uid = key.removeprefix(PREFIX)
            if any(model.uid == uid for model in self._user_models.claim(user).models.models):
                self.clear(uid)
            else:
                self.delete_model(uid)

"""Models whose bytes may belong to nobody: marked before bytes and list of models differ, cleared after.

    leftovers/<uid>      body: the user whose list says whether the model exists

A process that dies between a list of models and the bytes it names leaves its mark; the next one sweeps.
"""

from registry.revisions import Revisions
from registry.store import ObjectMissing, ObjectStore
from registry.user_models import UserModelStore

PREFIX = "leftovers/"


class Leftovers:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._user_models = UserModelStore(store)
        self._revisions = Revisions(store)

    def mark(self, user: str, uid: str) -> None:
        self._store.put(PREFIX + uid, user.encode())

    def clear(self, uid: str) -> None:
        self._store.delete(PREFIX + uid)

    def sweep(self) -> None:
        """Delete the bytes of marked models that no list of models names."""
        for key in self._store.list(PREFIX):
            try:
                user = self._store.get(key).body.decode()
            except ObjectMissing:
                continue
            uid = key.removeprefix(PREFIX)
            if all(model.uid != uid for model in self._user_models.load(user).models.models):
                self._revisions.delete_model(uid)
            self.clear(uid)

"""The version of the bucket's layout, and the upgrades from one version to the next.

    layout.json     the version; while a backup is being restored into the bucket, also the id of that backup

The service calls `BucketLayout.open` before anything else. It refuses a bucket that a later release has
written, because this release would misread it, and a bucket with half of a backup. It upgrades an older
bucket. A command that does not start the service calls `BucketLayout.require_current`, which also refuses an
older bucket: a service of the older release may still use it. A bucket without this object has layout 0: it
is empty, or from the time before versions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from registry.store import ObjectMissing, ObjectStore, StorageUnfit, WriteConflict

LAYOUT_KEY = "layout.json"
KINDS = (
    "keys/",
    "keys-of/",
    "users/",
    "models/",
    "jobs/",
    "jobs-active/",
    "leftovers/",
    "usage/",
    "idempotency/",
    "audit/",
    "leaders/",
    "files/",
    "files-unfinished/",
)
"""The beginnings of the keys that a backup has, and that a restore replaces."""
NOT_COPIED = frozenset({"probe/"})
"""The beginnings of keys that belong to one bucket, and that no other bucket needs."""

Upgrade = Callable[[ObjectStore], None]


def begin_versions(store: ObjectStore) -> None:
    """Layout 1 is layout 0 with `layout.json`, which `BucketLayout.open` writes. Nothing else changes."""


UPGRADES: tuple[Upgrade, ...] = (begin_versions,)
"""The upgrade at index `n` makes layout `n + 1` of layout `n`.

An upgrade may be repeated after a death, and two processes may run it at the same time. Both must do no harm.
"""


class Layout(BaseModel):
    """`layout.json`. Fields of later versions are ignored, so that their version can be read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 0
    restoring: str | None = None


@dataclass(frozen=True, slots=True)
class StoredLayout:
    """The layout of a bucket, and the etag of its object, which is None if there is none."""

    layout: Layout
    etag: str | None


class BucketLayout:
    """The layout of one bucket. `upgrades` is for tests."""

    def __init__(self, store: ObjectStore, upgrades: Sequence[Upgrade] = UPGRADES) -> None:
        self._store = store
        self._upgrades = upgrades

    @property
    def known(self) -> int:
        """The version that this release reads and writes."""
        return len(self._upgrades)

    def open(self) -> None:
        """Check the version, and upgrade an older bucket.

        Raises: StorageUnfit, with a message for the operator.
        """
        while (found := self.read()).layout.version < self.known:
            self._require_whole(found.layout)
            for upgrade in self._upgrades[found.layout.version :]:
                upgrade(self._store)
            try:
                self.save(Layout(version=self.known), found.etag)
            except WriteConflict:
                continue  # another process has opened the bucket
        self._require_whole(found.layout)
        self.require_known(found.layout.version)

    def require_current(self) -> None:
        """Check the version, and upgrade nothing. A bucket without objects gets the layout of this release.

        Raises: StorageUnfit, with a message for the operator.
        """
        if self.read().etag is None and not self._store.list_kinds() - NOT_COPIED:
            return self.open()
        found = self.read()  # once more: the service may have opened a new bucket meanwhile
        self._require_whole(found.layout)
        self.require_known(found.layout.version)
        if found.layout.version < self.known:
            raise StorageUnfit(
                f"the bucket has layout {found.layout.version}, and this release uses layout {self.known}: "
                "its service upgrades the bucket when it starts. Until then, use the release that wrote it"
            )

    def read(self) -> StoredLayout:
        try:
            stored = self._store.get(LAYOUT_KEY)
        except ObjectMissing:
            return StoredLayout(Layout(), None)
        try:
            return StoredLayout(Layout.model_validate_json(stored.body), stored.etag)
        except ValidationError as error:
            raise StorageUnfit(f"the bucket's {LAYOUT_KEY} cannot be read") from error

    def save(self, layout: Layout, etag: str | None) -> None:
        """Replace the layout that has this etag; None: there must be none. Raises: WriteConflict."""
        body = layout.model_dump_json(exclude_none=True).encode()
        if etag is None:
            self._store.create(LAYOUT_KEY, body)
        else:
            self._store.replace(LAYOUT_KEY, body, etag)

    def require_known(self, version: int) -> None:
        """Raises: StorageUnfit: a later release wrote this version."""
        if version > self.known:
            raise StorageUnfit(
                f"the bucket has layout {version}, and this release knows layouts up to {self.known}: "
                "install the release that wrote the bucket, or a later one"
            )

    def _require_whole(self, layout: Layout) -> None:
        if layout.restoring is not None:
            raise StorageUnfit("a restore into this bucket has not ended: repeat `tiger restore`")


def open_bucket(store: ObjectStore) -> None:
    """Make the bucket if there is none, prove that its endpoint is fit, and check the version of its layout.

    Raises: StorageUnfit, Unavailable.
    """
    store.probe()
    BucketLayout(store).open()

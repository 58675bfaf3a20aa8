"""The objects of a backup that is being made, at its place.

Every copy is read back at once. Adapters that an interrupted backup has copied are checked and kept.
"""

import threading
from datetime import datetime

from registry.backup.errors import BackupRefused
from registry.backup.manifest import BEGUN_KEY, MANIFEST_KEY, OBJECTS, BackupManifest, BackupObject
from registry.backup.place import Digest, Place, copy_object, digest_of, put_object
from registry.backup.progress import Progress, Report
from registry.records import AdapterFile, utc_now
from registry.store import ObjectMissing


class Copies:
    """Copies of objects of `source`. It may be used by several threads."""

    def __init__(self, source: Place, place: Place, report: Report) -> None:
        self._source = source
        self._place = place
        self._progress = Progress(report, " so far")
        self._copied: dict[str, BackupObject] = {}
        self._damaged: set[str] = set()
        self._earlier: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Claim the place. Raises: BackupRefused: it has a complete backup, or something else."""
        found = self._place.list("")
        if MANIFEST_KEY in found:
            raise BackupRefused("this place has a complete backup already: choose another place")
        if found and BEGUN_KEY not in found:
            raise BackupRefused("this place is not empty, and has no backup that was begun")
        self._place.put(BEGUN_KEY, b"")
        self._earlier = frozenset(key.removeprefix(OBJECTS) for key in found if key.startswith(OBJECTS))

    def has(self, key: str) -> bool:
        return key in self._copied

    def put(self, key: str, body: bytes) -> None:
        """Write an object of which the caller has the bytes."""
        self._add(key, put_object(self._place, OBJECTS + key, body))

    def take(self, key: str) -> bool:
        """Copy an object; returns False if the source has none."""
        try:
            self._add(key, copy_object(self._source, key, self._place, OBJECTS + key))
        except ObjectMissing:
            return False
        return True

    def take_file(self, file: AdapterFile) -> None:
        """Copy a file of an adapter, unless an earlier try did. Other bytes than those published are damage.

        Raises: ObjectMissing.
        """
        published = Digest(size_bytes=file.size_bytes, sha256=file.sha256)
        if file.key in self._earlier:
            earlier = digest_of(self._place.read_chunks(OBJECTS + file.key))
            if earlier == published:
                return self._add(file.key, earlier)
        if copy_object(self._source, file.key, self._place, OBJECTS + file.key) == published:
            self._add(file.key, published)
        else:
            self.note_damage(file.key)

    def drop(self, key: str) -> None:
        """Forget the copy of an object, if there is one."""
        with self._lock:
            self._copied.pop(key, None)

    def drop_all(self, prefix: str) -> None:
        """Forget the copies and the damage of the keys that begin with `prefix`."""
        with self._lock:
            for key in [key for key in self._copied if key.startswith(prefix)]:
                del self._copied[key]
            self._damaged = {key for key in self._damaged if not key.startswith(prefix)}

    def note_damage(self, key: str) -> None:
        with self._lock:
            self._damaged.add(key)

    def finish(self, layout: int, begun: datetime) -> BackupManifest:
        """Delete what an earlier try left, and write the manifest."""
        manifest = BackupManifest(
            layout=layout,
            begun=begun,
            finished=utc_now(),
            objects=tuple(self._copied[key] for key in sorted(self._copied)),
            damaged=tuple(sorted(self._damaged)),
        )
        wanted = {OBJECTS + key for key in self._copied}
        self._place.delete_many(key for key in self._place.list(OBJECTS) if key not in wanted)
        manifest.write(self._place)
        self._place.delete_many([BEGUN_KEY])
        return manifest

    def _add(self, key: str, digest: Digest) -> None:
        with self._lock:
            self._copied[key] = BackupObject(key=key, **digest.model_dump())
        self._progress.add(digest.size_bytes)

"""Restores a backup into a bucket, and checks a backup.

manifest -> check of all objects -> `layout.json` says that a restore is at work -> objects -> `layout.json`

Nothing opens the bucket while `layout.json` says so, so that no one sees half of a backup. An interrupted
restore of the same backup goes on: objects that are in the bucket and have the right digest stay.
"""

from collections.abc import Iterable

from registry.audit import PREFIX as AUDIT
from registry.backup.errors import BackupDamaged, BackupRefused
from registry.backup.manifest import OBJECTS, BackupManifest, BackupObject
from registry.backup.place import (
    IN_MEMORY_BYTES,
    LARGE_OBJECTS_THREADS,
    Digest,
    Place,
    copy_object,
    digest_of,
    in_parallel,
)
from registry.backup.progress import Progress, Report, amount
from registry.layout import KINDS, BucketLayout, Layout
from registry.store import ObjectMissing, ObjectStore, WriteConflict

MAX_NAMED = 5


def check_backup(place: Place, report: Report) -> BackupManifest:
    """Read every object of a backup, and compare it with its digest.

    Raises: BackupMissing, BackupDamaged, Unavailable.
    """
    manifest = BackupManifest.read(place)
    total = amount(len(manifest.objects), manifest.size_bytes)
    report(f"checking the backup: {total}")
    progress = Progress(report, f" of {total} checked")

    def is_whole(each: BackupObject) -> bool:
        progress.add(each.size_bytes)
        return _digest(place, OBJECTS + each.key) == _expected(each)

    wrong = [
        each.key
        for each, whole in zip(manifest.objects, in_parallel(is_whole, manifest.objects), strict=True)
        if not whole
    ]
    if wrong:
        named = ", ".join(wrong[:MAX_NAMED])
        raise BackupDamaged(f"{len(wrong)} objects of the backup are missing or changed: {named}")
    return manifest


class Restore:
    """The restore of a backup into the bucket `target`, which nothing else uses meanwhile."""

    def __init__(self, place: Place, target: ObjectStore, report: Report) -> None:
        self._place = place
        self._target = target
        self._layout = BucketLayout(target)
        self._report = report

    def run(self, replace: bool = False) -> BackupManifest:
        """Make the content of the bucket that of the backup. `replace`: what the bucket has may be deleted.

        Raises: BackupError, StorageUnfit, Unavailable.
        """
        manifest = check_backup(self._place, self._report)
        self._layout.require_known(manifest.layout)
        self._target.probe()
        self._begin(manifest, replace)
        self._target.delete_many(_replaced(self._stored()) - {each.key for each in manifest.objects})
        self._copy(manifest)
        self._end(manifest)
        return manifest

    def _begin(self, manifest: BackupManifest, replace: bool) -> None:
        found = self._layout.read()
        if found.layout.restoring == manifest.id:
            return self._report("an earlier restore of this backup goes on")
        is_empty = found.layout.restoring is None and not self._has_objects()
        if not (is_empty or replace):
            raise BackupRefused(
                "the bucket is not empty: use an empty one, or --replace to delete what it has"
            )
        try:
            self._layout.save(Layout(version=manifest.layout, restoring=manifest.id), found.etag)
        except WriteConflict as error:
            raise BackupRefused("another process has opened this bucket a moment ago") from error

    def _copy(self, manifest: BackupManifest) -> None:
        total = amount(len(manifest.objects), manifest.size_bytes)
        progress = Progress(self._report, f" of {total} restored")
        stored = self._stored()

        def ensure(each: BackupObject) -> None:
            expected = _expected(each)
            found = _digest(self._target, each.key) if each.key in stored else None
            if found != expected:
                found = copy_object(self._place, OBJECTS + each.key, self._target, each.key)
            if found != expected:
                raise BackupDamaged(f"{each.key} of the backup has changed since it was checked")
            progress.add(each.size_bytes)

        self._report(f"restoring {total}")
        in_parallel(ensure, [each for each in manifest.objects if each.size_bytes <= IN_MEMORY_BYTES])
        large = [each for each in manifest.objects if each.size_bytes > IN_MEMORY_BYTES]
        in_parallel(ensure, large, LARGE_OBJECTS_THREADS)

    def _end(self, manifest: BackupManifest) -> None:
        """Open the bucket to others, if it has the objects of the backup and no others."""
        found = self._layout.read()
        is_whole = _replaced(self._stored()) == _replaced(each.key for each in manifest.objects)
        if found.layout.restoring != manifest.id or not is_whole:
            raise BackupRefused("another process changed the bucket during the restore: repeat it")
        self._layout.save(Layout(version=manifest.layout), found.etag)

    def _stored(self) -> set[str]:
        return {key for kind in KINDS for key in self._target.list(kind)}

    def _has_objects(self) -> bool:
        return any(self._target.list(kind, limit=1) for kind in KINDS)


def _replaced(keys: Iterable[str]) -> set[str]:
    """Returns the keys without those of the audit log, of which nothing is ever deleted."""
    return {key for key in keys if not key.startswith(AUDIT)}


def _expected(each: BackupObject) -> Digest:
    return Digest(size_bytes=each.size_bytes, sha256=each.sha256)


def _digest(place: Place, key: str) -> Digest | None:
    try:
        return digest_of(place.read_chunks(key))
    except ObjectMissing:
        return None

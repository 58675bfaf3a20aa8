"""The manifests of revisions: the object that is written last, and only once.

    models/<uid>/revisions/<000007>/manifest.json      names the files, their sizes and digests

A job that was given up may have written a manifest late. It is discarded for the next job: a reservation for
that job takes its place, by a conditional write. So a process that discards cannot delete what another one
has written meanwhile, and the job that was given up cannot write its manifest again.
"""

import builtins
import re
from contextlib import suppress

from pydantic import TypeAdapter

from registry.records import Manifest, Record
from registry.store import ObjectMissing, ObjectStore, WriteConflict

UID_PATTERN = re.compile(r"[A-Za-z0-9_-]+")


class ReservedRevision(Record):
    """The object in place of a discarded manifest. Only the job that it names may replace it."""

    reserved_for: str


ENTRY: TypeAdapter[Manifest | ReservedRevision] = TypeAdapter(Manifest | ReservedRevision)
"""The contents of `manifest.json`."""


class Manifests:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def get(self, uid: str, revision: int) -> Manifest | None:
        entry, _ = self._entry(uid, revision)
        return entry if isinstance(entry, Manifest) else None

    def list(self, uid: str) -> builtins.list[Manifest]:
        """The manifests of a model, newest first."""
        keys = [key for key in self._store.list(model_prefix(uid)) if is_manifest(key)]
        found = self._store.get_many(reversed(keys))
        entries = [ENTRY.validate_json(stored.body) for stored in found if stored is not None]
        return [entry for entry in entries if isinstance(entry, Manifest)]

    def maker(self, uid: str, revision: int) -> str | None:
        """The job that wrote this revision, or for which it is reserved; None: neither."""
        entry, _ = self._entry(uid, revision)
        return None if entry is None else _maker(entry)

    def write(self, uid: str, manifest: Manifest) -> Manifest:
        """Write a manifest; returns the one that was first.

        Raises:
            WriteConflict: the revision is reserved for another job.
        """
        key, body = manifest_key(uid, manifest.revision), manifest.model_dump_json().encode()
        with suppress(WriteConflict):
            self._store.create(key, body)
            return manifest
        entry, etag = self._entry(uid, manifest.revision)
        if isinstance(entry, ReservedRevision) and entry.reserved_for == manifest.job and etag is not None:
            with suppress(WriteConflict):
                self._store.replace(key, body, etag)
                return manifest
            entry, _ = self._entry(uid, manifest.revision)
        if not isinstance(entry, Manifest):
            raise WriteConflict(key)
        return entry

    def discard(self, uid: str, revision: int, maker: str, job: str) -> None:
        """Reserve for `job` a revision of the job `maker`, which was given up and will never publish it.

        Nothing happens if the revision has another maker by now. The files that stay because storage fails
        here are deleted when the revision is written.
        """
        entry, etag = self._entry(uid, revision)
        if entry is None or etag is None or _maker(entry) != maker:
            return
        reserved = ReservedRevision(reserved_for=job).model_dump_json().encode()
        with suppress(WriteConflict):
            self._store.replace(manifest_key(uid, revision), reserved, etag)
            # Only these files: the next attempts may be writing others below the same prefix.
            files = entry.files if isinstance(entry, Manifest) else ()
            self._store.delete_many(file.key for file in files)

    def _entry(self, uid: str, revision: int) -> tuple[Manifest | ReservedRevision | None, str | None]:
        """The contents of `manifest.json` and its etag, or None twice."""
        try:
            stored = self._store.get(manifest_key(uid, revision))
        except ObjectMissing:
            return None, None
        return ENTRY.validate_json(stored.body), stored.etag


def _maker(entry: Manifest | ReservedRevision) -> str | None:
    return entry.job if isinstance(entry, Manifest) else entry.reserved_for


def model_prefix(uid: str) -> str:
    if not UID_PATTERN.fullmatch(uid):
        raise ValueError("a uid is letters, digits, _ and -")
    return f"models/{uid}/revisions/"


def revision_prefix(uid: str, revision: int) -> str:
    return f"{model_prefix(uid)}{revision:06d}/"


def manifest_key(uid: str, revision: int) -> str:
    return f"{revision_prefix(uid, revision)}manifest.json"


def is_manifest(key: str) -> bool:
    return key.endswith("/manifest.json")

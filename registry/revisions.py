"""Revisions: immutable adapters, whose manifest is written last.

    models/<uid>/revisions/<000007>/<attempt>/adapter_config.json
    models/<uid>/revisions/<000007>/<attempt>/adapter_model.safetensors
    models/<uid>/revisions/<000007>/manifest.json      names the files, their sizes and digests
    models/<uid>/revisions/<000007>/state-<job>.safetensors   the state of a training that makes this revision
    models/<uid>/revisions/<000007>/optimizer.safetensors     the next training continues with it

Every call of publish writes below a prefix of its own, so a writer that was thought dead can never overwrite
bytes that a manifest names. A revision without a manifest does not exist.
"""

import builtins
import hashlib
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from registry.errors import RevisionNotFound, Unavailable
from registry.manifests import Manifests, is_manifest, manifest_key, model_prefix, revision_prefix
from registry.records import AdapterFile, Manifest, utc_now
from registry.store import ObjectMissing, ObjectStore, WriteConflict

CONFIG_FILE = "adapter_config.json"
WEIGHTS_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")


class DigestMismatch(Exception):
    """A fetched file is not the one that was published, or the manifest names a file that is not allowed."""


class Revisions:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._manifests = Manifests(store)

    def publish(
        self,
        uid: str,
        directory: Path,
        *,
        revision: int,
        parent_revision: int | None,
        job: str | None,
        base_model: str,
        metrics: Mapping[str, float],
        step: int | None = None,
    ) -> Manifest:
        """Make the adapter in `directory` a revision. Repeating it for the same job is harmless.

        `step` is that of a revision which the job makes before its last one.

        Raises:
            WriteConflict: the revision exists and another job made it.
            ValueError: `directory` holds no adapter.
        """
        paths = sorted(path for path in directory.iterdir() if _is_adapter_file(path.name))
        names = [path.name for path in paths]
        if CONFIG_FILE not in names or len(names) < 2:
            raise ValueError(f"publish: {CONFIG_FILE} and a safetensors file are needed, found {names}")
        existing = self.manifest(uid, revision)
        if existing is not None:
            return _same_job(existing, job, uid, revision)
        attempt = _attempt_prefix(uid, revision)
        for path in paths:
            self._store.upload_file(path, attempt + path.name)
        manifest = Manifest(
            revision=revision,
            parent_revision=parent_revision,
            job=job,
            step=step,
            base_model=base_model,
            created=utc_now(),
            metrics=dict(metrics),
            files=tuple(_adapter_file(path, attempt + path.name) for path in paths),
        )
        return self._seal(uid, manifest)

    def manifest(self, uid: str, revision: int) -> Manifest | None:
        return self._manifests.get(uid, revision)

    def list(self, uid: str) -> builtins.list[Manifest]:
        """The manifests of the published revisions, newest first."""
        return self._manifests.list(uid)

    def fetch(self, uid: str, revision: int, directory: Path) -> Manifest:
        """Download a revision to `directory`, which appears complete and checked, or not at all.

        Raises:
            RevisionNotFound: it was never published, or the model was deleted.
            DigestMismatch: the bytes are not those that were published.
        """
        manifest = self.manifest(uid, revision)
        if manifest is None:
            raise RevisionNotFound("no such revision")
        for file in manifest.files:
            if not _is_adapter_file(file.name):
                raise DigestMismatch(uid, revision, file.name)
        partial = directory.with_name(f".{directory.name}.{secrets.token_hex(8)}")
        partial.mkdir(mode=0o700)
        try:
            for file in manifest.files:
                self._download(file, partial / file.name)
            _check_files(uid, manifest, partial)
            _move_into_place(uid, manifest, partial, directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return manifest

    def copy(self, uid: str, revision: int, new_uid: str) -> Manifest:
        """Copy a revision inside the bucket: the copy is revision 0 of another model.

        Raises:
            RevisionNotFound: it was never published, or its model was deleted meanwhile.
            WriteConflict: the other model has a revision 0 that a job made.
        """
        source = self.manifest(uid, revision)
        if source is None:
            raise RevisionNotFound("no such revision")
        existing = self.manifest(new_uid, 0)
        if existing is not None:
            return _same_job(existing, None, new_uid, 0)
        attempt = _attempt_prefix(new_uid, 0)
        files = tuple(file.model_copy(update={"key": attempt + file.name}) for file in source.files)
        try:
            for old, new in zip(source.files, files, strict=True):
                self._store.copy(old.key, new.key)
        except ObjectMissing as error:
            raise RevisionNotFound("no such revision") from error
        copied = Manifest(
            revision=0,
            parent_revision=None,
            job=None,
            base_model=source.base_model,
            created=utc_now(),
            files=files,
        )
        return self._seal(new_uid, copied)

    def delete_model(self, uid: str) -> None:
        """Delete all revisions, manifests first: if this stops half-way, no incomplete revision is left."""
        self._delete(model_prefix(uid))

    def maker(self, uid: str, revision: int) -> str | None:
        """The job that wrote this revision, or for which it is reserved; None: neither."""
        return self._manifests.maker(uid, revision)

    def discard(self, uid: str, revision: int, maker: str, job: str) -> None:
        """Discard for `job` the late work of the job `maker`, which was given up and never publishes it."""
        self._manifests.discard(uid, revision, maker, job)

    def save_state(self, uid: str, revision: int, job: str, path: Path) -> None:
        """Save the state of `job`. It is deleted when the revision is published."""
        self._store.upload_file(path, _state_key(uid, revision, job))

    def fetch_state(self, uid: str, revision: int, job: str, path: Path) -> bool:
        """Download the last state of `job` to `path`; returns False if there is none."""
        try:
            self._store.download_file(_state_key(uid, revision, job), path)
        except ObjectMissing:
            return False
        return True

    def delete_state(self, uid: str, revision: int, job: str) -> None:
        """Delete the state of a job that ends without a revision.

        Nothing else is deleted, because the next job may already be making the same revision.
        """
        self._store.delete(_state_key(uid, revision, job))

    def save_optimizer(self, uid: str, revision: int, path: Path) -> None:
        """Save the optimizer state of a revision. The revision is complete without it."""
        self._store.upload_file(path, _optimizer_key(uid, revision))

    def fetch_optimizer(self, uid: str, revision: int, path: Path) -> bool:
        """Download the optimizer state of a revision to `path`; returns False if there is none."""
        try:
            self._store.download_file(_optimizer_key(uid, revision), path)
        except ObjectMissing:
            return False
        return True

    def delete_optimizer(self, uid: str, revision: int) -> None:
        self._store.delete(_optimizer_key(uid, revision))

    def _delete(self, prefix: str) -> None:
        keys = self._store.list(prefix)
        self._store.delete_many(key for key in keys if is_manifest(key))
        self._store.delete_many(key for key in keys if not is_manifest(key))

    def _seal(self, uid: str, manifest: Manifest) -> Manifest:
        """Write the manifest, or find one that was written before; delete the files of all other attempts."""
        # Files that are listed later may be those of another job, if this manifest is discarded at once.
        found: builtins.list[str] = []
        with suppress(Unavailable):
            found = self._store.list(revision_prefix(uid, manifest.revision))
        published = self._manifests.write(uid, manifest)
        # The manifest is written, so no attempt that it does not name can win any more, and its files can be
        # deleted. Files that stay because storage fails here are deleted with the model.
        kept = {manifest_key(uid, manifest.revision), _optimizer_key(uid, manifest.revision)}
        kept |= {file.key for file in published.files}
        with suppress(Unavailable):
            self._store.delete_many(other for other in found if other not in kept)
        return _same_job(published, manifest.job, uid, manifest.revision)

    def _download(self, file: AdapterFile, path: Path) -> None:
        try:
            self._store.download_file(file.key, path)
        except ObjectMissing as error:
            raise RevisionNotFound("no such revision") from error
        path.chmod(0o600)


def _same_job(published: Manifest, job: str | None, uid: str, revision: int) -> Manifest:
    if published.job != job:
        raise WriteConflict(manifest_key(uid, revision))
    return published


def _is_adapter_file(name: str) -> bool:
    """Return True for a name that may be published, and that fetch may write to a disk."""
    return name == CONFIG_FILE or WEIGHTS_PATTERN.fullmatch(name) is not None


def _adapter_file(path: Path, key: str) -> AdapterFile:
    return AdapterFile(name=path.name, key=key, size_bytes=path.stat().st_size, sha256=_sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(uid: str, manifest: Manifest, directory: Path) -> None:
    for file in manifest.files:
        path = directory / file.name
        if not path.is_file() or path.stat().st_size != file.size_bytes or _sha256(path) != file.sha256:
            raise DigestMismatch(uid, manifest.revision, file.name)


def _move_into_place(uid: str, manifest: Manifest, partial: Path, directory: Path) -> None:
    try:
        partial.rename(directory)
    except OSError:
        # Another call fetched the same revision. Readers may have it open, so it is checked and stays.
        if not directory.is_dir():
            raise
        _check_files(uid, manifest, directory)


def _attempt_prefix(uid: str, revision: int) -> str:
    return f"{revision_prefix(uid, revision)}{secrets.token_hex(8)}/"


def _state_key(uid: str, revision: int, job: str) -> str:
    return f"{revision_prefix(uid, revision)}state-{job}.safetensors"


def _optimizer_key(uid: str, revision: int) -> str:
    return f"{revision_prefix(uid, revision)}optimizer.safetensors"

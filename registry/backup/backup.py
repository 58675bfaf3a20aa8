"""Makes a backup of a bucket while the service runs.

usage -> reservations -> jobs -> models, with their adapters and jobs -> files -> new reservations -> keys
-> audit log -> leaders -> manifest

The order makes the copy consistent; a file of docs/decisions has the argument. In short: of two objects where
one leans on the other, the service writes the one that is leaned on first, and the backup reads it last.
"""

from registry.audit import PREFIX as AUDIT
from registry.backup.copies import Copies
from registry.backup.errors import BackupRefused
from registry.backup.files import FileCopies
from registry.backup.jobs import JobCopies
from registry.backup.manifest import BackupManifest
from registry.backup.models import ModelCopies
from registry.backup.place import Place, in_parallel
from registry.backup.progress import Report
from registry.keys import MARKERS
from registry.keys import PREFIX as KEYS
from registry.layout import KINDS, NOT_COPIED, BucketLayout
from registry.leadership import PREFIX as LEADERS
from registry.records import utc_now
from registry.reservations import Reservation
from registry.store import ObjectStore

USAGE = "usage/"
RESERVATIONS = "idempotency/"


class Backup:
    """One backup of `source` at `place`. After an interruption it is made again, and goes on."""

    def __init__(self, source: ObjectStore, place: Place, report: Report) -> None:
        self._source = source
        self._report = report
        self._copies = Copies(source, place, report)

    def make(self) -> BackupManifest:
        """Copy everything, and write the manifest.

        Raises: BackupError, StorageUnfit, Unavailable, OSError (a directory that refuses).
        """
        layout = self._require_layout()
        begun = utc_now()
        self._copies.begin()
        jobs = JobCopies(self._source, self._copies)
        models = ModelCopies(self._source, self._copies, jobs)
        self._report("copying usage, reservations and jobs")
        self._copy_kind(USAGE)
        self._copy_kind(RESERVATIONS)
        jobs.copy_all()
        self._report("copying models")
        models.copy_all()
        self._report("copying files")
        FileCopies(self._source, self._copies).copy_all()
        self._report("copying keys")
        self._copy_new_reservations()
        self._copy_keys()
        self._report("copying the audit log")
        # An entry is written before its action. Therefore the copy has an entry for each action in it.
        self._copy_kind(AUDIT)
        # No record of the copy may have a later epoch than its leader.
        self._copy_kind(LEADERS)
        self._tell_unknown_kinds()
        return self._copies.finish(layout, begun)

    def _require_layout(self) -> int:
        """The layout of the bucket, which must be the one that this release knows."""
        layout = BucketLayout(self._source)
        found = layout.read().layout
        layout.require_known(found.version)
        if found.version < layout.known or found.restoring is not None:
            raise BackupRefused(
                "this bucket is empty, or has half of a backup, or an earlier release wrote it: "
                "`tiger up` of this release must have opened it"
            )
        return found.version

    def _copy_kind(self, prefix: str) -> None:
        in_parallel(self._copies.take, self._source.list(prefix))

    def _tell_unknown_kinds(self) -> None:
        """Tell the operator of objects that are not of tiger, or for which this file has no rule."""
        if unknown := sorted(self._source.list_kinds() - set(KINDS) - NOT_COPIED):
            self._report(f"not copied, because it is of no kind that a backup has: {', '.join(unknown)}")

    def _copy_new_reservations(self) -> None:
        """Copy the reservations that were made meanwhile: models and jobs of the copy may be theirs.

        Such a model may also be missing in the copy. It would then count as deleted if its reservation said
        that it was made, so the copy does not say that.
        """
        new = [key for key in self._source.list(RESERVATIONS) if not self._copies.has(key)]
        for key, stored in zip(new, self._source.get_many(new), strict=True):
            if stored is not None:
                reservation = Reservation.model_validate_json(stored.body)
                open_one = reservation.model_copy(update={"is_done": False})
                self._copies.put(key, open_one.model_dump_json().encode())

    def _copy_keys(self) -> None:
        """Copy the keys that are valid now, and their markers."""
        hashes = {key.removeprefix(KEYS).removesuffix(".json") for key in self._source.list(KEYS)}
        markers = [key for key in self._source.list(MARKERS) if key.rpartition("/")[2] in hashes]
        in_parallel(self._copies.take, markers)
        in_parallel(self._copies.take, [f"{KEYS}{key_hash}.json" for key_hash in sorted(hashes)])
        for marker in markers:
            if not self._copies.has(f"{KEYS}{marker.rpartition('/')[2]}.json"):
                self._copies.drop(marker)  # the key was revoked meanwhile

"""What a job goes on from: the adapter of the current revision, and the optimizer that made it."""

import logging
from pathlib import Path

from registry.errors import Unavailable
from registry.revisions import Revisions
from training.patience import until_storage
from training.state import Moments
from training.types import Assignment

logger = logging.getLogger(__name__)


def fetch_parent(
    revisions: Revisions, assignment: Assignment, directory: Path
) -> tuple[Path | None, Moments | None]:
    """A PEFT directory below `directory` (None: a fresh adapter), and the moments (None: a new optimizer).

    Only the latest revision's optimizer is kept. A training that goes on from an older revision, or from a
    copy of another model, begins with a new one.
    """
    if not assignment.has_parent_adapter:
        return None, None
    parent = directory / "parent"
    of = assignment.uid, assignment.parent_revision
    manifest = until_storage(lambda: revisions.fetch(*of, parent))
    path = directory / "parent-optimizer.safetensors"
    if manifest.job is None or not until_storage(lambda: revisions.fetch_optimizer(*of, path)):
        return parent, None
    try:
        moments = Moments.load(path)
    except Exception:
        logger.exception("the optimizer of job %s cannot be read; a new one takes its place", manifest.job)
        return parent, None
    # A worker that was given up may have left its own.
    return parent, moments if moments.job == manifest.job else None


def keep_optimizer(revisions: Revisions, assignment: Assignment, path: Path) -> None:
    """Keep the optimizer of a published revision for the next training, in place of the one kept before.

    As well as storage allows: without it the next training begins with a new one.
    """
    uid, revision = assignment.uid, assignment.revision
    try:
        revisions.save_optimizer(uid, revision, path)
        for earlier in {assignment.parent_revision, revision - 1}:
            revisions.delete_optimizer(uid, earlier)
        if revisions.manifest(uid, revision) is None:  # the model was deleted meanwhile
            revisions.delete_optimizer(uid, revision)
    except (Unavailable, OSError):
        logger.warning("the optimizer of job %s could not be kept", assignment.job_id, exc_info=True)

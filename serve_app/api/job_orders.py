"""Carries out orders of users about their jobs: cancel, pause, resume. The audit log has each order."""

from registry.audit import Action
from registry.records import JobRecord
from serve_app.api.audit import AuditedRequest
from serve_app.api.backends import Backends


async def carry_out(
    action: Action, job: JobRecord, user: str, backends: Backends, audit: AuditedRequest
) -> JobRecord:
    """Gives an order about a job of the user; returns the job after it. A job that has ended does not change.

    Raises: Unavailable; JobNotFound: its model was deleted a moment ago.
    """
    if job.status.is_terminal:
        return job
    trainer = backends.trainer
    order = {
        Action.CANCEL_TRAINING: trainer.cancel,
        Action.PAUSE_TRAINING: trainer.pause,
        Action.RESUME_TRAINING: trainer.resume,
    }[action]
    async with audit.recorded(action, job=job.id, model=job.model, uid=job.uid):
        return await order(user, job.id)

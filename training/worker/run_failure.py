"""Tells in a few words why a run ended, for the users whose trainings wait for it.

Only errors of our own tree have messages for users. Of every other error they get the name of its class: its
message may contain a path. The log of the Trainer has the whole error.
"""

from registry.errors import TigerError


def failure_of(error: Exception) -> str:
    """Return why `fit` of a run raised this error."""
    from ray.train import ControllerError, WorkerGroupError

    from training.worker.ray_train_private import raised_in_worker

    cause: BaseException = error
    if isinstance(error, WorkerGroupError):
        cause = raised_in_worker(next(iter(error.worker_failures.values()), error))
    elif isinstance(error, ControllerError):
        cause = error.controller_failure
    return cause.message if isinstance(cause, TigerError) else type(cause).__name__

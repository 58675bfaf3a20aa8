"""The words for the end of a run that its users get: the classes of errors, and the messages of our own."""

import pytest
from ray.train import ControllerError, WorkerGroupError

from registry.errors import Unavailable
from training.worker.ray_train_private import UserExceptionWithTraceback
from training.worker.run_failure import failure_of

SECRET = "/home/somebody/weights"


def failed_worker(error: Exception) -> WorkerGroupError:
    """The error of a run whose worker raised this, as Ray Train gives it."""
    return WorkerGroupError("failed", {1: UserExceptionWithTraceback(error, f"Traceback: {error}")})


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (failed_worker(FileNotFoundError(SECRET)), "FileNotFoundError"),
        (failed_worker(Unavailable("storage cannot be reached")), "storage cannot be reached"),
        (WorkerGroupError("failed", {0: ConnectionError(SECRET)}), "ConnectionError"),
        (WorkerGroupError(SECRET, {}), "WorkerGroupError"),
        (ControllerError(ValueError(SECRET)), "ValueError"),
        (RuntimeError(SECRET), "RuntimeError"),
    ],
)
def test_failure_has_no_message_of_a_library(error: Exception, words: str) -> None:
    assert failure_of(error) == words

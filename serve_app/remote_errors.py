"""Turns errors of calls between deployments into our own errors."""

import asyncio
import logging

import grpc
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

from registry import errors

logger = logging.getLogger("ray.serve")


def as_tiger_error(error: BaseException) -> errors.TigerError:
    """Returns our own error for `error`, for the client. Unknown errors are logged as `internal_error`."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, errors.TigerError):
        return cause
    if isinstance(cause, RayActorError | BackPressureError | DeploymentUnavailableError):
        logger.warning("a replica could not be reached: %s", type(cause).__name__)
        return errors.Unavailable(errors.UNREACHABLE)
    if isinstance(cause, RayServeException | asyncio.CancelledError) or _is_broken_off(cause):
        logger.warning("a call was refused or broken off: %r", cause)
        return errors.Unavailable(errors.UNREACHABLE)
    logger.error("unexpected error", exc_info=error)
    return errors.TigerError(errors.INTERNAL_ERROR)


def is_superseded(error: BaseException) -> bool:
    """Returns True if a replica refused a call because a later leader exists."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, errors.Superseded)


def is_replaced(error: BaseException) -> bool:
    """Returns True if the replica has ended, or is superseded, so that the next one may answer."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    is_gone = isinstance(cause, RayActorError | DeploymentUnavailableError) or _is_broken_off(cause)
    return is_gone or is_superseded(error)


def _is_broken_off(error: BaseException) -> bool:
    """Returns True if the connection to a replica ended, as gRPC reports it. Serve passes such errors on."""
    broken = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    return isinstance(error, grpc.aio.AioRpcError) and error.code() in broken

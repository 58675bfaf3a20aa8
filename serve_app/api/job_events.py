"""The events of a job as lines, also while the trainer that tells them is being replaced."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from ray.exceptions import RayActorError, RayTaskError

from registry.deployment_calls import AnswerStream
from registry.errors import Superseded, Unavailable
from serve_app.remote_errors import is_superseded
from training.controller.active_jobs import is_last

PAUSE_S = 0.1
AWAY_S = 600.0
"""A trainer that has not answered for so long is given up by those who follow; the job itself goes on."""


async def followed(
    ask: Callable[[], AnswerStream[str]], away_s: float = AWAY_S, clock: Callable[[], float] = time.monotonic
) -> AsyncGenerator[str, None]:
    """NDJSON lines, each once and in order, up to the last one.

    Args:
        ask: Calls a trainer for all events from the first on.

    A trainer that was superseded by the next one of its cluster refuses to go on. The next one is asked then.

    Raises: JobNotFound; Superseded: the trainer of another cluster leads; Unavailable, after `away_s` seconds
        without a trainer.
    """
    num_seen, heard_at, num_refused = 0, clock(), 0
    while True:
        lines = ask()
        try:
            position = 0
            async for line in lines:
                heard_at = clock()
                position += 1
                # The events that a trainer takes up again may be fewer than those already passed on.
                if position > num_seen or is_last(line):
                    num_seen = max(num_seen, position)
                    yield line
                if is_last(line):
                    return
            return
        except RayActorError:
            if clock() - heard_at > away_s:
                message = (
                    "the trainer cannot be reached; the training continues and can be read under /v1/jobs"
                )
                raise Unavailable(message) from None
            await asyncio.sleep(PAUSE_S)
        except (RayTaskError, Superseded) as error:
            num_refused += 1
            if not is_superseded(error) or num_refused > 1:
                raise
        finally:
            lines.cancel()

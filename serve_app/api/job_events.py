"""The events of a job as lines, also while the Trainer that tells them is being replaced."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from registry.deployment_calls import AnswerStream
from registry.errors import Unavailable
from serve_app.remote_errors import is_replaced, is_superseded
from serve_app.repeated_reads import PATIENCE_S
from training.controller.active_jobs import is_last
from training.event_line import EventLine

PAUSE_S = 0.1
AWAY_S = 600.0
"""A Trainer that has not answered for so long is given up by those who follow; the job itself goes on."""

UNREACHABLE_TRAINER = "the trainer cannot be reached; the training continues and can be read under /v1/jobs"


async def followed(
    ask: Callable[[int], AnswerStream[EventLine]],
    away_s: float = AWAY_S,
    superseded_s: float = PATIENCE_S,
    clock: Callable[[], float] = time.monotonic,
    pause_s: float = PAUSE_S,
) -> AsyncGenerator[str, None]:
    """NDJSON lines, each once and in order, up to the last one.

    Args:
        ask: Calls a Trainer for the events after the first ones, whose number it is given.

    A line that only present followers see is not shown again by the next call.

    A Trainer that was superseded refuses to go on. Until the next one of its cluster can be reached, calls
    may still come to the former one, so they are repeated for `superseded_s` seconds. The time in which there
    was no Trainer at all is counted apart.

    Raises: JobNotFound; Superseded: the Trainer of another cluster leads; Unavailable, after `away_s` seconds
        without a Trainer.
    """
    num_seen, shown = 0, ""
    away_since_s: float | None = None
    superseded_since_s: float | None = None
    while True:
        lines = ask(num_seen)
        is_paused = False
        try:
            async for line in lines:
                away_since_s = superseded_since_s = None
                is_event, is_paused = line.num_events > num_seen, line.is_pause
                num_seen = max(num_seen, line.num_events)
                if is_paused or (line == shown and not is_event):
                    continue
                shown = line
                yield line
                if is_last(line):
                    return
            if not is_paused:
                return
        except Exception as error:
            if not is_replaced(error):
                raise
            now_s = clock()
            if is_superseded(error):
                superseded_since_s = now_s if superseded_since_s is None else superseded_since_s
                if now_s - superseded_since_s > superseded_s:
                    raise
            else:
                away_since_s = now_s if away_since_s is None else away_since_s
                if now_s - away_since_s > away_s:
                    raise Unavailable(UNREACHABLE_TRAINER) from None
        finally:
            lines.cancel()
        await asyncio.sleep(pause_s)

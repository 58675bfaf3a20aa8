"""Keeps Ray Serve's log of a replica open while other libraries configure their logging.

`logging.config.dictConfig` closes every handler of the process, and vLLM calls it when its engine starts. A
closed handler of Serve writes nothing more. A Serve controller that replaces a dead one stops every replica
that cannot name its log file.
"""

import atexit
import logging
from logging.handlers import MemoryHandler

from serve_app.ray_private import SERVE_LOGGER_NAME


def keep_open() -> None:
    """Removes Serve's handlers from the list of handlers that `logging.config` closes."""
    kept: set[logging.Handler] = set()
    for handler in logging.getLogger(SERVE_LOGGER_NAME).handlers:
        kept.add(handler)
        if isinstance(handler, MemoryHandler) and handler.target is not None:
            kept.add(handler.target)
        atexit.register(handler.flush)  # Python only does this for handlers in the list
    logging._handlerList[:] = [  # type: ignore[attr-defined]
        reference
        for reference in logging._handlerList  # type: ignore[attr-defined]
        if reference() not in kept
    ]

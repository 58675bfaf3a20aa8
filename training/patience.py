"""Storage that is away for a while ends no training."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from registry.errors import Unavailable

logger = logging.getLogger(__name__)

RETRY_S = 1.0

T = TypeVar("T")


def until_storage(step: Callable[[], T]) -> T:
    """What `step` gives; again and again while storage is away."""
    while True:
        try:
            return step()
        except Unavailable:
            logger.warning("storage is away; trying again")
            time.sleep(RETRY_S)

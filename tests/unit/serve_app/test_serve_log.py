"""vLLM configures its logging while Serve's handlers exist."""

import logging
from collections.abc import Iterator
from logging.config import dictConfig
from logging.handlers import MemoryHandler
from pathlib import Path

import pytest

from serve_app.ray_private import SERVE_LOGGER_NAME
from serve_app.serve_log import keep_open


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[MemoryHandler]:
    """A handler like the one in each replica of Serve: it writes to its target."""
    logger = logging.getLogger(SERVE_LOGGER_NAME)
    handler = MemoryHandler(1, target=logging.FileHandler(tmp_path / "replica.log"))
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_serves_log_stays_open(handler: MemoryHandler, tmp_path: Path) -> None:
    keep_open()
    dictConfig({"version": 1, "disable_existing_loggers": False})
    assert handler.target is not None
    logging.getLogger(SERVE_LOGGER_NAME).error("still here")
    assert "still here" in (tmp_path / "replica.log").read_text()


def test_without_it_the_log_would_be_closed(handler: MemoryHandler) -> None:
    """If this test fails, Python does not close handlers any more, and `keep_open` can be deleted."""
    dictConfig({"version": 1, "disable_existing_loggers": False})
    assert handler.target is None

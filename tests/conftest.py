import os
import sys

import pytest

pytest_plugins = [
    "tests.support.storage",
    "tests.support.weights",
    "tests.support.tiny_model",
    "tests.support.system",
    "tests.support.browser",
]


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Exit with the result of the tests, before the interpreter shuts down.

    A process that had started and ended Ray several times sometimes aborted in the shutdown ("free():
    corrupted unsorted chunks"), after the last test and the report.
    """
    session = config.pluginmanager.get_plugin("session")
    if session is not None and "ray" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(session.exitstatus))

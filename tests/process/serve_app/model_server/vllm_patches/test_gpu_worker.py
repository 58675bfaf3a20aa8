"""An engine falls asleep although another process takes memory of the same GPU meanwhile.

There is no GPU here. vLLM's own `sleep` runs on a worker whose parts are in memory, and the readings of the
GPU's memory are those of a list.
"""

import ast
import inspect
from collections.abc import Iterator
from textwrap import dedent
from types import SimpleNamespace

import pytest
import torch

from serve_app.model_server.vllm_gpu_worker_private import Worker as VllmWorker
from serve_app.model_server.vllm_patches.gpu_worker import LESS_MEMORY, Worker

TOTAL = 100


class Backend:
    """A sleep mode backend that remembers how it was suspended."""

    def __init__(self, error: Exception | None = None) -> None:
        self.levels: list[int] = []
        self._error = error

    def suspend(self, level: int) -> None:
        if self._error is not None:
            raise self._error
        self.levels.append(level)


class OnNoGpu:
    """Replaces the parts of vLLM's worker that need a GPU."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.vllm_config = SimpleNamespace(model_config=SimpleNamespace(enable_nccl_comm_suspend=False))

    @property
    def sleep_mode_backend(self) -> Backend:
        return self._backend


class OurWorker(OnNoGpu, Worker):
    """The worker under test."""


class PlainWorker(OnNoGpu, VllmWorker):
    """vLLM's own worker."""


@pytest.fixture(params=[(10, 40), (40, 10)], ids=["freed", "taken by others"])
def readings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The free memory of the GPU before and after the sleep."""
    before_and_after: tuple[int, int] = request.param
    left: Iterator[int] = iter(before_and_after)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: None)
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda: (next(left), TOTAL))
    return before_and_after


def test_engine_sleeps_whatever_others_take_meanwhile(readings: tuple[int, int]) -> None:
    backend = Backend()
    OurWorker(backend).sleep(1)
    assert backend.levels == [1]


def test_vllm_alone_would_end_after_it_has_freed_its_memory(readings: tuple[int, int]) -> None:
    backend = Backend()
    before, after = readings
    if after < before:
        with pytest.raises(AssertionError, match=LESS_MEMORY):
            PlainWorker(backend).sleep(1)
    else:
        PlainWorker(backend).sleep(1)
    assert backend.levels == [1]


def test_other_errors_end_the_engine_as_before(readings: tuple[int, int]) -> None:
    with pytest.raises(AssertionError, match="another"):
        OurWorker(Backend(AssertionError("another assertion"))).sleep(1)


def test_only_a_log_line_follows_the_assertion() -> None:
    (function,) = ast.parse(dedent(inspect.getsource(VllmWorker.sleep))).body
    assert isinstance(function, ast.FunctionDef)
    *_, assertion, last = function.body
    assert isinstance(assertion, ast.Assert) and isinstance(assertion.msg, ast.Constant)
    assert assertion.msg.value == LESS_MEMORY
    assert ast.unparse(last).startswith("logger.info(")

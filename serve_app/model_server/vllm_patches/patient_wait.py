"""How vLLM's engine and its worker wait for each other on a machine with few cores.

vLLM's own wait is a loop of `sched_yield` for a second after the last message. A thread that yields gives up
its claim to the CPU (Linux 6.18: its virtual runtime), so that once others want to run, one that has looped
for long is served last: up to half a second was seen. Here it naps for a moment and then sleeps until it is
told, as vLLM does after its second; `register` puts that in the place of vLLM's, as a plugin
(`vllm.general_plugins`, pyproject.toml). The figures are those of `bench.serving.first_token`.
"""

import time

from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
from vllm.platforms import current_platform

NAPPING_S = 0.001
NAP_S = 0.00005
ALERT_S = 1.0
ALERT_SLEEP_MS = 5
"""While messages come: one that follows another within a millisecond may not be told of, vLLM drops it."""

vllm_wait = SpinCondition.wait


def register() -> None:
    if current_platform.is_cpu():
        SpinCondition.__init__.__defaults__ = (NAPPING_S,)  # busy_loop_s
        SpinCondition.wait = patient_wait


def patient_wait(self: SpinCondition, timeout_ms: int | None = None) -> None:
    """Return when there may be something to read, or after `timeout_ms`: the caller looks and waits again."""
    waited_s = time.monotonic() - self.last_read
    if waited_s <= self.busy_loop_s:
        time.sleep(NAP_S)
    elif waited_s <= ALERT_S:
        vllm_wait(self, ALERT_SLEEP_MS if timeout_ms is None else min(timeout_ms, ALERT_SLEEP_MS))
    else:
        vllm_wait(self, timeout_ms)

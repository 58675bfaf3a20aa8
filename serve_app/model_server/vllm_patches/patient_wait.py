"""Changes how vLLM's engine and its worker wait for each other on a machine with few cores.

vLLM's own wait calls `sched_yield` in a loop for a second after the last message. Each yield lowers the claim
of the thread to the CPU (its virtual runtime in Linux 6.18). When other threads want to run, a thread that
has looped for long runs last: delays of up to half a second were seen. Here the thread sleeps in short naps
for a moment and then until it is notified, as vLLM does after its second. `register` replaces vLLM's wait, as
a plugin (`vllm.general_plugins`, pyproject.toml). The figures are those of `bench.serving.first_token`.
"""

import time

from serve_app.model_server.vllm_private import SpinCondition, current_platform

NAPPING_S = 0.001
NAP_S = 0.00005
ALERT_S = 1.0
ALERT_SLEEP_MS = 5
"""The longest sleep in the first second after a message.

vLLM can lose the notification of a message that follows another one within a millisecond.
"""

vllm_wait = SpinCondition.wait


def register() -> None:
    if current_platform.is_cpu():
        SpinCondition.__init__.__defaults__ = (NAPPING_S,)  # busy_loop_s
        SpinCondition.wait = patient_wait


def patient_wait(self: SpinCondition, timeout_ms: int | None = None) -> None:
    """Returns when there may be a message, or after `timeout_ms`. The caller checks and waits again."""
    waited_s = time.monotonic() - self.last_read
    if waited_s <= self.busy_loop_s:
        time.sleep(NAP_S)
    elif waited_s <= ALERT_S:
        vllm_wait(self, ALERT_SLEEP_MS if timeout_ms is None else min(timeout_ms, ALERT_SLEEP_MS))
    else:
        vllm_wait(self, timeout_ms)

"""vLLM's worker on GPUs, which falls asleep also while another process takes memory of the same GPU.

vLLM frees the memory of the engine, and then asserts that the free memory of the whole GPU has not shrunk.
With `share_gpu`, the training worker of another base model may take memory in the same moment. All is done by
then: only a log line follows the assertion. But the error would leave the engine half asleep, and end it at
its next step. No lock of ours could avoid that, because a training takes memory at every step.

An engine argument (serve_app.app) names this module, and vLLM loads it only in the worker's process.
"""

import logging

from serve_app.model_server import vllm_gpu_worker_private

LESS_MEMORY = "Memory usage increased after sleeping."
"""The message of vLLM's assertion."""

logger = logging.getLogger(__name__)


class Worker(vllm_gpu_worker_private.Worker):
    def sleep(self, level: int = 1) -> None:
        try:
            super().sleep(level)
        except AssertionError as error:
            if error.args != (LESS_MEMORY,):
                raise
            logger.info("another process took memory of the GPU while this engine fell asleep")

"""The names of vLLM's worker on the CPU that we extend. vLLM does not promise to keep them.

`tests/process/serve_app/model_server/test_vllm_worker_private.py` compares each of them with the installed
vLLM. They are not in `model_server.vllm_private`, because the model runner is a large module that only the
worker's process loads.
"""

from vllm.v1.worker import cpu_worker
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

__all__ = ["CPUModelRunner", "cpu_worker"]

OBJECTS = {
    "vllm.v1.worker.cpu_worker": ("CPUModelRunner", "CPUWorker"),
    "vllm.v1.worker.cpu_model_runner.CPUModelRunner": (
        "_sample",
        "_bookkeeping_sync",
        "discard_request_mask",
        "input_batch",
    ),
    "vllm.v1.worker.gpu_input_batch.InputBatch": ("generators", "num_reqs"),
}
"""The names that `vllm_patches.cpu_worker` replaces, overrides or reads on vLLM's objects."""

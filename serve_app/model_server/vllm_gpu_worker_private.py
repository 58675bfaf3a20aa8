"""The names of vLLM's worker on GPUs that we extend. vLLM does not promise to keep them.

`tests/process/serve_app/model_server/test_vllm_gpu_worker_private.py` compares each of them with the
installed vLLM. They have a file of their own, because only the worker's process loads this heavy module, and
on a GPU it loads nothing that is for CPUs.
"""

from vllm.v1.worker.gpu_worker import Worker

__all__ = ["Worker"]

OBJECTS = {
    "vllm.v1.worker.gpu_worker.Worker": ("sleep",),
}
"""The name that `vllm_patches.gpu_worker` overrides."""

"""The names of vLLM that our plugins replace or extend. vLLM does not promise to keep them.

All other files take these names from here. `tests/process/serve_app/model_server/test_vllm_private.py`
compares each of them with the installed vLLM. The plugins run in every process of vLLM, so this file imports
only what they need. Other names are in three further files:

    vllm_worker_private    the model runner, which only the worker's process loads
    vllm_openai_private    vLLM's OpenAI layer, which only the replica's process loads
    vllm_objects_private   attributes of vLLM's objects, for files that must not load vLLM
"""

import sys
from types import ModuleType

from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
from vllm.lora import model_manager
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.platforms import current_platform
from vllm.platforms.cpu import CpuPlatform
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.request import RequestStatus
from vllm.v1.structured_output import backend_guidance
from vllm.v1.structured_output.backend_guidance import GuidanceBackend, GuidanceGrammar
from vllm.v1.structured_output.backend_types import StructuredOutputOptions

__all__ = [
    "CpuPlatform",
    "EngineCoreOutput",
    "EngineCoreOutputs",
    "GuidanceBackend",
    "GuidanceGrammar",
    "KVCacheConfig",
    "LogitsProcessor",
    "PunicaWrapperCPU",
    "RequestStatus",
    "Scheduler",
    "SpinCondition",
    "StructuredOutputOptions",
    "backend_guidance",
    "current_platform",
    "loaded_model_runner",
    "model_manager",
]

OBJECTS = {
    "vllm.distributed.device_communicators.shm_broadcast.SpinCondition": (
        "__init__",
        "wait",
        "notify",
        "last_read",
        "busy_loop_s",
    ),
    "vllm.lora.model_manager": ("get_supported_lora_modules",),
    "vllm.lora.punica_wrapper.punica_cpu.PunicaWrapperCPU": (
        "update_metadata",
        "token_lora_indices",
        "add_lora_linear",
        "add_shrink",
        "add_expand",
        "add_lora_embedding",
        "add_lora_logits",
        "apply_lora_full_linear",
    ),
    "vllm.model_executor.layers.logits_processor.LogitsProcessor": ("forward",),
    "vllm.model_executor.models.interfaces.SupportsLoRA": ("embedding_modules",),
    "vllm.platforms.cpu.CpuPlatform": ("get_punica_wrapper", "is_cpu"),
    "vllm.v1.core.sched.scheduler.Scheduler": ("update_from_output", "finish_requests"),
    "vllm.v1.kv_cache_interface.KVCacheConfig": ("needs_kv_cache_zeroing",),
    "vllm.v1.outputs.ModelRunnerOutput": (
        "num_nans_in_logits",
        "prompt_logprobs_dict",
        "req_id_to_index",
        "sampled_token_ids",
    ),
    "vllm.v1.request.Request": (
        "client_index",
        "get_finished_reason",
        "request_id",
        "take_events",
        "trace_headers",
    ),
    "vllm.v1.request.RequestStatus": ("FINISHED_ERROR",),
    "vllm.v1.structured_output.backend_guidance": ("validate_guidance_grammar",),
    "vllm.v1.structured_output.backend_guidance.GuidanceBackend": (
        "compile_grammar",
        "ll_tokenizer",
        "vocab_size",
    ),
    "vllm.v1.structured_output.backend_guidance.GuidanceGrammar": ("accept_tokens", "ll_matcher"),
    "vllm.v1.structured_output.backend_types.StructuredOutputOptions": (
        "GRAMMAR",
        "JSON",
        "JSON_OBJECT",
        "REGEX",
    ),
    "vllm.v1.worker.gpu_model_runner": ("count_nans_per_row",),
}
"""The names that the plugins replace, override or read on vLLM's objects."""

NANS_VARIABLE = "VLLM_COMPUTE_NANS_IN_LOGITS"
"""The variable with which vLLM counts the NaNs in the logits of each request."""


def loaded_model_runner() -> ModuleType | None:
    """Returns vLLM's module of the model runner if this process has loaded it, as only the worker does."""
    return sys.modules.get("vllm.v1.worker.gpu_model_runner")

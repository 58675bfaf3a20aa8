"""The names of vLLM that our plugins lean on are in the installed vLLM, in the shapes that we use."""

import dataclasses

import pytest
import vllm
from vllm import envs
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import FrontendArgs
from vllm.plugins import load_general_plugins

from serve_app.app import llm_config
from serve_app.model_server import vllm_private
from serve_app.model_server.vllm_patches.bounded_grammar import BoundedGrammar
from serve_app.model_server.vllm_patches.grouped_lora import GroupedLora
from serve_app.settings import load_settings
from tests.support.shapes import ATTRIBUTE, Shapes, cases_of, check_names, check_overrides, check_shape

SEAM = "serve_app/model_server/vllm_private.py"
SHAPES: Shapes = {
    "vllm.distributed.device_communicators.shm_broadcast.SpinCondition": {
        "__init__": "self, is_reader, context, notify_address, busy_loop_s=",
        "busy_loop_s": ATTRIBUTE,
        "last_read": ATTRIBUTE,
        "notify": "self",
        "wait": "self, timeout_ms=",
    },
    "vllm.lora.model_manager": {
        "get_supported_lora_modules": "model",
    },
    "vllm.lora.punica_wrapper.punica_cpu.PunicaWrapperCPU": {
        "add_expand": "self, y, x, lora_b_stacked, output_slices, offset_start=, add_inputs=, **kwargs",
        "add_lora_embedding": "self, y, x, lora_b_stacked, add_inputs=, **kwargs",
        "add_lora_linear": (
            "self, y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, *, buffer=, **kwargs"
        ),
        "add_lora_logits": "self, y, x, lora_a_stacked, lora_b_stacked, scale, *, buffer=, **kwargs",
        "add_shrink": "self, y, x, lora_a_stacked, scale, **kwargs",
        "apply_lora_full_linear": "self, y, x, weight_stacked, bias_stacked, module_enabled",
        "token_lora_indices": ATTRIBUTE,
        "update_metadata": "self, mapping, lora_index_to_id, max_loras, vocab_size, **kwargs",
    },
    "vllm.model_executor.layers.logits_processor.LogitsProcessor": {
        "forward": "self, lm_head, hidden_states, embedding_bias=, skip_gather=",
    },
    "vllm.model_executor.models.interfaces.SupportsLoRA": {
        "embedding_modules": ATTRIBUTE,
    },
    "vllm.platforms": {
        "current_platform": ATTRIBUTE,
    },
    "vllm.platforms.cpu.CpuPlatform": {
        "get_punica_wrapper": "",
        "is_cpu": "self",
    },
    "vllm.v1.core.sched.scheduler.Scheduler": {
        "finish_requests": "self, request_ids, finished_status",
        "update_from_output": "self, scheduler_output, model_runner_output",
    },
    "vllm.v1.engine": {
        "EngineCoreOutput": ATTRIBUTE,
        "EngineCoreOutputs": ATTRIBUTE,
    },
    "vllm.v1.kv_cache_interface.KVCacheConfig": {
        "needs_kv_cache_zeroing": ATTRIBUTE,
    },
    "vllm.v1.outputs.ModelRunnerOutput": {
        "num_nans_in_logits": ATTRIBUTE,
        "prompt_logprobs_dict": ATTRIBUTE,
        "req_id_to_index": ATTRIBUTE,
        "sampled_token_ids": ATTRIBUTE,
    },
    "vllm.v1.request.Request": {
        "client_index": ATTRIBUTE,
        "get_finished_reason": "self",
        "request_id": ATTRIBUTE,
        "take_events": "self",
        "trace_headers": ATTRIBUTE,
    },
    "vllm.v1.request.RequestStatus": {
        "FINISHED_ERROR": ATTRIBUTE,
    },
    "vllm.v1.structured_output.backend_guidance": {
        "validate_guidance_grammar": "sampling_params, tokenizer=",
    },
    "vllm.v1.structured_output.backend_guidance.GuidanceBackend": {
        "compile_grammar": "self, request_type, grammar_spec, stop_token_ids=",
        "ll_tokenizer": ATTRIBUTE,
        "vocab_size": ATTRIBUTE,
    },
    "vllm.v1.structured_output.backend_guidance.GuidanceGrammar": {
        "accept_tokens": "self, request_id, tokens",
        "ll_matcher": ATTRIBUTE,
    },
    "vllm.v1.structured_output.backend_types.StructuredOutputOptions": {
        "GRAMMAR": ATTRIBUTE,
        "JSON": ATTRIBUTE,
        "JSON_OBJECT": ATTRIBUTE,
        "REGEX": ATTRIBUTE,
    },
    "vllm.v1.worker.gpu_model_runner": {
        "count_nans_per_row": "logits",
    },
}


@pytest.fixture(scope="module", autouse=True)
def plugins() -> None:
    """Loads our plugins, as other tests of this process do. A shape is that of the original all the same."""
    load_general_plugins()


@pytest.mark.parametrize(("owner", "name"), cases_of(SHAPES))
def test_name_has_the_shape_that_we_use(owner: str, name: str) -> None:
    check_shape(owner, name, SHAPES[owner][name])


def test_every_name_of_the_seam_has_a_shape() -> None:
    check_names(SEAM, SHAPES)


def test_every_override_is_listed() -> None:
    check_overrides(SEAM, GroupedLora, vllm_private.PunicaWrapperCPU)
    check_overrides(SEAM, BoundedGrammar, vllm_private.GuidanceGrammar)


def test_only_default_of_the_spin_condition_is_its_busy_loop() -> None:
    """patient_wait replaces all defaults of the constructor."""
    defaults = vllm_private.SpinCondition.__init__.__defaults__
    assert defaults is not None and len(defaults) == 1, f"vllm {vllm.__version__}: {defaults}"


def test_vllm_counts_nans_by_the_variable() -> None:
    assert vllm_private.NANS_VARIABLE in envs.environment_variables, f"vllm {vllm.__version__}"


@pytest.mark.parametrize("profile", ["local", "gpu", "test"])
def test_vllm_knows_every_engine_argument(profile: str) -> None:
    settings = load_settings(profile)
    known = {field.name for part in (AsyncEngineArgs, FrontendArgs) for field in dataclasses.fields(part)}
    for model in settings.models:
        unknown = llm_config(model, settings).engine_kwargs.keys() - known
        assert not unknown, f"vllm {vllm.__version__} does not know {sorted(unknown)}"

"""Numbers of one request that are not finite stay with that request, and end it with an error.

A private model's adapter may make anything of the numbers that pass through it. vLLM computes all requests
of a step together and keeps their keys and values in blocks that are used again; two walls stand here, put
into vLLM in each of its processes by `register`, as a plugin (`vllm.general_plugins`, pyproject.toml).

**Blocks are zeroed before they are used again.** The kernels of the attention give the places of a block that
no token has taken yet the weight 0, and then multiply what is there: 0 * NaN is NaN.

- On the CPU (csrc/cpu/cpu_attn_*.hpp) the product with V goes over the tokens rounded up to 32, so that a
  prompt that does not end at such a border reads up to 31 places of whoever had the block before.
- On GPUs FlashAttention 2 and Triton's kernel load zeros there. FlashAttention 3 and 4 load the whole tile
  and have this fault (github.com/Dao-AILab/flash-attention/issues/2374); FlashInfer's kernels of TensorRT-LLM
  have been seen with it (github.com/vllm-project/vllm/pull/35219).

vLLM can zero what it allocates and does it for caches of mixed kinds only. The scheduler tells the worker
which blocks are new, and the worker zeroes them before the step, on CPUs and GPUs. Nothing else carries over:
blocks that are shared by prefix belong to one user's salt and one load of one adapter; an adapter's slot is
reset whole, layer by layer, before the next one is written; rows of a step are computed apart from each other
(vllm_patches.grouped_lora, and vLLM's own kernels on GPUs); what a sampler remembers is of its request.

**A request whose logits make no sense ends with an error** (finish reason `error`, stop reason SENSELESS)
before any token of that step is told to anybody. Of a sensible row all logits are finite and not all are
equal: numbers that overflow inside of a norm come out of it as zeros. There is no other bound: the last norm
and the output layer are the base model's own, and keep finite logits within what these can make. Such a row
is filled with NaN where the logits are made, which is before masks of structured output forbid tokens, so
that vLLM's own counter finds it, for prompts' log-probabilities too.
"""

import os
import sys
from typing import Any

import torch
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.request import RequestStatus

from serve_app.model_server.tenant_engine import SENSELESS

vllm_logits = LogitsProcessor.forward
vllm_update = Scheduler.update_from_output


def register() -> None:
    os.environ["VLLM_COMPUTE_NANS_IN_LOGITS"] = "1"
    KVCacheConfig.needs_kv_cache_zeroing = property(lambda config: True)
    LogitsProcessor.forward = marked_logits
    Scheduler.update_from_output = update_from_output


def marked_logits(self: LogitsProcessor, *args: Any, **kwargs: Any) -> torch.Tensor | None:
    """vLLM's logits (rows, vocabulary), with NaN throughout the rows that make no sense."""
    logits: torch.Tensor | None = vllm_logits(self, *args, **kwargs)
    if logits is None:  # another rank has them
        return None
    is_senseless = ~are_sensible(logits)
    if not logits.is_cpu or is_senseless.any():  # to look would hold up a GPU
        logits.masked_fill_(is_senseless.unsqueeze(-1), torch.nan)
    # Loaded in the worker alone, and heavy: elsewhere there is nothing to speed up.
    if runner := sys.modules.get("vllm.v1.worker.gpu_model_runner"):
        runner.count_nans_per_row = count_marked  # type: ignore[attr-defined]
    return logits


def are_sensible(logits: torch.Tensor) -> torch.Tensor:
    """Of each row. `amin` and `amax` are NaN where a number is; together they cost a fifth of `aminmax`."""
    spread = logits.amax(dim=-1).float() - logits.amin(dim=-1).float()
    return (spread > 0) & (spread < torch.inf)


def count_marked(logits: torch.Tensor) -> torch.Tensor:
    """1 for a marked row, else 0. vLLM counts all NaNs, a tenth of a step of a small model on a CPU."""
    return logits.amax(dim=-1).isnan().int()


def update_from_output(self: Scheduler, scheduled: Any, made: Any) -> dict[int, EngineCoreOutputs]:
    """vLLM's outputs of a step; requests with senseless logits have none but that they ended.

    `made` is what the model runner made of the step.
    """
    senseless = senseless_requests(made)
    for request_id in senseless:
        if made.sampled_token_ids:
            made.sampled_token_ids[made.req_id_to_index[request_id]] = []
        made.prompt_logprobs_dict.pop(request_id, None)
    outputs: dict[int, EngineCoreOutputs] = vllm_update(self, scheduled, made)
    for request in self.finish_requests(senseless, RequestStatus.FINISHED_ERROR):
        of_client = outputs.setdefault(request.client_index, EngineCoreOutputs())
        of_client.outputs.append(
            EngineCoreOutput(
                request_id=request.request_id,
                new_token_ids=[],
                finish_reason=request.get_finished_reason(),
                stop_reason=SENSELESS,
                events=request.take_events(),
                trace_headers=request.trace_headers,
            )
        )
    return outputs


def senseless_requests(made: Any) -> list[str]:
    sampled = [request_id for request_id, num in (made.num_nans_in_logits or {}).items() if num]
    prompts = [
        request_id
        for request_id, tensors in made.prompt_logprobs_dict.items()
        if tensors is not None and tensors.logprobs.isnan().any()
    ]
    return [*dict.fromkeys(sampled + prompts)]

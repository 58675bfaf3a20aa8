"""Ends a request whose numbers are not finite with an error, and keeps such numbers away from other requests.

A private model's adapter can turn the numbers that pass through it into anything. vLLM computes all requests
of a step together, and reuses the blocks with their keys and values. This plugin (`vllm.general_plugins`,
pyproject.toml), whose `register` runs in each process of vLLM, protects other requests in two ways.

**Blocks are zeroed before they are used again.** The attention kernels give weight 0 to the places of a block
that have no token yet, and then multiply what is there: 0 * NaN is NaN.

- On the CPU (csrc/cpu/cpu_attn_*.hpp) the product with V covers a multiple of 32 tokens. A prompt of another
  length therefore reads up to 31 places of the request that had the block before.
- On GPUs FlashAttention 2 and Triton's kernel load zeros there. FlashAttention 3 and 4 load the whole tile
  and have this fault (github.com/Dao-AILab/flash-attention/issues/2374); FlashInfer's kernels of TensorRT-LLM
  have been seen with it (github.com/vllm-project/vllm/pull/35219).

vLLM can zero the blocks that it allocates, but does so only for caches of mixed kinds. With this plugin it
always does: the scheduler tells the worker which blocks are new, and the worker zeroes them before the step,
on CPUs and GPUs. Nothing else passes from one request to another:

- Blocks that are shared by prefix belong to one user's salt and one load of one adapter.
- An adapter's slot is reset completely, layer by layer, before the next adapter is written to it.
- The rows of a step are computed separately (vllm_patches.grouped_lora, and vLLM's own kernels on GPUs).
- The state of a sampler belongs to its request.

**A request with unusable logits ends with an error** (finish reason `error`, stop reason SENSELESS) before
any token of that step is sent. A row of logits is usable if all of them are finite and not all are equal. All
are equal if numbers overflow inside of a norm, which then returns zeros. There is no other bound: the last
norm and the output layer belong to the base model, and limit finite logits. An unusable row is filled with
NaN where the logits are computed, before structured output masks tokens. Then vLLM's own counter finds it,
also for the log-probabilities of prompts.
"""

import os
from functools import wraps
from typing import Any

import torch

from serve_app.model_server.request_engine import SENSELESS
from serve_app.model_server.vllm_private import (
    NANS_VARIABLE,
    EngineCoreOutput,
    EngineCoreOutputs,
    KVCacheConfig,
    LogitsProcessor,
    RequestStatus,
    Scheduler,
    loaded_model_runner,
)

vllm_logits = LogitsProcessor.forward
vllm_update = Scheduler.update_from_output


def register() -> None:
    os.environ[NANS_VARIABLE] = "1"
    KVCacheConfig.needs_kv_cache_zeroing = property(lambda config: True)
    LogitsProcessor.forward = marked_logits
    Scheduler.update_from_output = update_from_output


@wraps(vllm_logits)
def marked_logits(self: LogitsProcessor, *args: Any, **kwargs: Any) -> torch.Tensor | None:
    """Returns vLLM's logits (rows, vocabulary). Unusable rows are filled with NaN."""
    logits: torch.Tensor | None = vllm_logits(self, *args, **kwargs)
    if logits is None:  # another rank has the logits
        return None
    is_senseless = ~are_sensible(logits)
    if not logits.is_cpu or is_senseless.any():  # on a GPU the check itself would make the host wait
        logits.masked_fill_(is_senseless.unsqueeze(-1), torch.nan)
    # Only the worker's process has loaded this heavy module. Other processes do not need the faster counter.
    if runner := loaded_model_runner():
        runner.count_nans_per_row = count_marked  # type: ignore[attr-defined]
    return logits


def are_sensible(logits: torch.Tensor) -> torch.Tensor:
    """Returns True for each usable row.

    `amin` and `amax` are NaN if a number in the row is NaN. Together they cost a fifth of `aminmax`.
    """
    spread = logits.amax(dim=-1).float() - logits.amin(dim=-1).float()
    return (spread > 0) & (spread < torch.inf)


def count_marked(logits: torch.Tensor) -> torch.Tensor:
    """Returns 1 for each row filled with NaN, else 0.

    vLLM counts all NaNs, which takes a tenth of a step of a small model on a CPU.
    """
    return logits.amax(dim=-1).isnan().int()


@wraps(vllm_update)
def update_from_output(self: Scheduler, scheduled: Any, made: Any) -> dict[int, EngineCoreOutputs]:
    """Returns vLLM's outputs of a step. Requests with unusable logits get only the output that ends them.

    `made` is the model runner's output of the step.
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

"""Our changes of vLLM against numbers that are not finite. tests/engine tests them in a running engine."""

import os
from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest
import torch
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.outputs import LogprobsTensors, ModelRunnerOutput
from vllm.v1.worker import gpu_model_runner

from serve_app.model_server.vllm_patches.finite_numbers import (
    are_sensible,
    count_marked,
    marked_logits,
    register,
    senseless_requests,
    update_from_output,
)

NAN, INF = torch.nan, torch.inf
SENSELESS_ROWS = {
    "nan": [1.0, NAN, 2.0],
    "all nan": [NAN, NAN, NAN],
    "infinite": [1.0, INF, 2.0],
    "negative infinite": [1.0, -INF, 2.0],
    "all negative infinite": [-INF, -INF, -INF],
    "all the same": [0.0, 0.0, 0.0],
}
SENSIBLE_ROWS = {"ordinary": [1.0, -3.0, 2.0], "far apart": [1e30, -1e30, 0.0], "close": [0.0, 1e-3, 0.0]}
PROCESSOR = SimpleNamespace(logits_as_input=True, soft_cap=None, scale=1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rows_are_marked_where_the_logits_are_made_and_counted_behind_masks(dtype: torch.dtype) -> None:
    rows = torch.tensor([*SENSELESS_ROWS.values(), *SENSIBLE_ROWS.values()], dtype=dtype)
    expected = [True] * len(SENSELESS_ROWS) + [False] * len(SENSIBLE_ROWS)
    assert are_sensible(rows).tolist() == [not is_senseless for is_senseless in expected]
    logits = marked_logits(PROCESSOR, None, rows.clone())
    assert logits is not None
    assert logits.isnan().all(dim=1).tolist() == expected
    kept = ~torch.tensor(expected)
    assert torch.equal(logits[kept], rows[kept])
    logits[:, 1:] = -INF  # structured output forbids all tokens but one
    assert count_marked(logits).tolist() == [int(is_senseless) for is_senseless in expected]


def test_rank_without_logits_marks_none() -> None:
    assert marked_logits(PROCESSOR, None, None) is None


def test_step_names_the_requests_whose_logits_or_prompts_make_no_sense() -> None:
    def scores(number: float) -> LogprobsTensors:
        return LogprobsTensors(torch.zeros(2, 1), torch.tensor([[-1.0], [number]]), torch.zeros(2))

    made = ModelRunnerOutput(req_ids=["a", "b", "c", "d"], req_id_to_index={"a": 0, "b": 1, "c": 2, "d": 3})
    assert senseless_requests(made) == []
    made.num_nans_in_logits = {"a": 0, "b": 3, "c": 0, "d": 1}
    made.prompt_logprobs_dict = {"a": scores(-INF), "b": scores(NAN), "c": scores(NAN), "d": None}
    assert senseless_requests(made) == ["b", "d", "c"]


def test_is_put_in_vllms_place_by_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    (plugin,) = [p for p in entry_points(group="vllm.general_plugins") if p.name == "tiger_finite_numbers"]
    assert plugin.load() is register
    monkeypatch.setenv("VLLM_COMPUTE_NANS_IN_LOGITS", "0")
    for owner, name in (
        (KVCacheConfig, "needs_kv_cache_zeroing"),
        (LogitsProcessor, "forward"),
        (Scheduler, "update_from_output"),
        (gpu_model_runner, "count_nans_per_row"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    register()
    assert KVCacheConfig(num_blocks=1, kv_cache_tensors=[], kv_cache_groups=[]).needs_kv_cache_zeroing
    assert LogitsProcessor.forward is marked_logits
    assert Scheduler.update_from_output is update_from_output
    assert os.environ["VLLM_COMPUTE_NANS_IN_LOGITS"] == "1"
    marked_logits(PROCESSOR, None, torch.zeros(1, 3))
    assert gpu_model_runner.count_nans_per_row is count_marked

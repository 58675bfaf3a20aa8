"""The names of vLLM's worker that we lean on are in the installed vLLM, in the shapes that we use."""

import pytest

from tests.support.shapes import ATTRIBUTE, Shapes, cases_of, check_names, check_shape

SEAM = "serve_app/model_server/vllm_worker_private.py"
SHAPES: Shapes = {
    "vllm.v1.worker.cpu_model_runner.CPUModelRunner": {
        "_bookkeeping_sync": (
            "self, scheduler_output, sampler_output, logits, hidden_states, num_scheduled_tokens"
        ),
        "_sample": "self, logits, spec_decode_metadata",
        "discard_request_mask": ATTRIBUTE,
        "input_batch": ATTRIBUTE,
    },
    "vllm.v1.worker.cpu_worker": {
        "CPUModelRunner": ATTRIBUTE,
        "CPUWorker": ATTRIBUTE,
    },
    "vllm.v1.worker.gpu_input_batch.InputBatch": {
        "generators": ATTRIBUTE,
        "num_reqs": ATTRIBUTE,
    },
}


@pytest.mark.parametrize(("owner", "name"), cases_of(SHAPES))
def test_name_has_the_shape_that_we_use(owner: str, name: str) -> None:
    check_shape(owner, name, SHAPES[owner][name])


def test_every_name_of_the_seam_has_a_shape() -> None:
    check_names(SEAM, SHAPES)

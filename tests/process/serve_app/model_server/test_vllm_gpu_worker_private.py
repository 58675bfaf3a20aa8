"""The names of vLLM's worker on GPUs that we lean on are in the installed vLLM, in the shapes that we use."""

import pytest

from serve_app.model_server.vllm_gpu_worker_private import Worker as VllmWorker
from serve_app.model_server.vllm_patches.gpu_worker import Worker
from tests.support.shapes import Shapes, cases_of, check_names, check_overrides, check_shape

SEAM = "serve_app/model_server/vllm_gpu_worker_private.py"
SHAPES: Shapes = {
    "vllm.v1.worker.gpu_worker.Worker": {
        "sleep": "self, level=",
    },
}


@pytest.mark.parametrize(("owner", "name"), cases_of(SHAPES))
def test_name_has_the_shape_that_we_use(owner: str, name: str) -> None:
    check_shape(owner, name, SHAPES[owner][name])


def test_every_name_of_the_seam_has_a_shape() -> None:
    check_names(SEAM, SHAPES)


def test_every_overridden_name_is_in_the_seam() -> None:
    check_overrides(SEAM, Worker, VllmWorker)

"""The names of Ray Serve LLM that we lean on are in the installed Ray, in the shapes that we use."""

import pytest

from serve_app.model_server import ray_llm_private
from serve_app.model_server.server import ModelServer
from serve_app.model_server.weights_in_place import WeightsInPlace
from tests.support.shapes import ATTRIBUTE, Shapes, cases_of, check_names, check_overrides, check_shape

SEAM = "serve_app/model_server/ray_llm_private.py"
SHAPES: Shapes = {
    "ray.llm._internal.common.callbacks.base.CallbackBase": {
        "ctx": ATTRIBUTE,
        "on_before_node_init": "self",
    },
    "ray.llm._internal.common.callbacks.base.CallbackCtx": {
        "run_init_node": ATTRIBUTE,
    },
    "ray.llm._internal.serve.core.server.llm_server.LLMServer": {
        "__del__": "self",
        "__init__": "self, llm_config, *, engine_cls=, model_downloader=",
        "_init_multiplex_loader": "self, model_downloader_cls=",
        "_load_model": ATTRIBUTE,
        "_start_engine": "self",
        "check_health": "self",
        "engine": ATTRIBUTE,
        "get_deployment_options": "llm_config",
    },
    "ray.llm._internal.serve.engines.vllm.vllm_engine.VLLMEngine": {
        "_engine_client": ATTRIBUTE,
        "_oai_serving_chat": ATTRIBUTE,
        "_oai_serving_completion": ATTRIBUTE,
        "start": "self",
    },
}


@pytest.mark.parametrize(("owner", "name"), cases_of(SHAPES))
def test_name_has_the_shape_that_we_use(owner: str, name: str) -> None:
    check_shape(owner, name, SHAPES[owner][name])


def test_every_name_of_the_seam_has_a_shape() -> None:
    check_names(SEAM, SHAPES)


def test_every_override_is_listed() -> None:
    check_overrides(SEAM, ModelServer, ModelServer.__base__)
    check_overrides(SEAM, WeightsInPlace, ray_llm_private.CallbackBase)

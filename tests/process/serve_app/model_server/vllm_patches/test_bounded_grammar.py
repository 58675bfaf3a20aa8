"""Grammars in vLLM's engine: they have limits, and an answer that cannot go on is an error."""

import json
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.llm import LLMConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.tokenizers import get_tokenizer
from vllm.v1.structured_output import backend_guidance
from vllm.v1.structured_output.backend_guidance import GuidanceBackend, validate_guidance_grammar
from vllm.v1.structured_output.backend_types import StructuredOutputOptions

from serve_app.app import llm_config
from serve_app.model_server.vllm_patches.bounded_grammar import BoundedGrammar, register
from serve_app.settings import load_settings
from tests.support.ray_private import vllm_arguments

JSON = StructuredOutputOptions.JSON
END = 2


@pytest.fixture
def backend(smollm2_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GuidanceBackend]:
    monkeypatch.setattr(backend_guidance, "validate_guidance_grammar", validate_guidance_grammar)
    monkeypatch.setattr(GuidanceBackend, "compile_grammar", GuidanceBackend.compile_grammar)
    register()
    outputs = SimpleNamespace(disable_any_whitespace=False, disable_additional_properties=False)
    config: Any = SimpleNamespace(structured_outputs_config=outputs)
    yield GuidanceBackend(config, tokenizer=get_tokenizer(str(smollm2_weights)), vocab_size=49_152)


def follow(grammar: BoundedGrammar, backend: GuidanceBackend, choose: str) -> bool:
    """Return True if the grammar takes each token of a text of `choose`.

    The scheduler asks it in this way.
    """
    (token,) = backend.tokenizer.encode(choose, add_special_tokens=False)
    quote = backend.tokenizer.encode('"', add_special_tokens=False)
    bitmask = backend.allocate_token_bitmask(1)
    if not grammar.accept_tokens("request", quote):
        return False
    for _ in range(100):
        grammar.fill_bitmask(bitmask, 0)
        allows = bool(bitmask[0, token // 32] >> token % 32 & 1)
        if not grammar.accept_tokens("request", [token if allows else END]):
            return False
    return True


def test_plugin_is_registered() -> None:
    """vLLM finds the plugin in every process."""
    (found,) = [point for point in entry_points(group="vllm.general_plugins") if point.load() is register]
    assert found.name == "tiger_bounded_grammar"


def test_answer_that_cannot_go_on_fails(backend: GuidanceBackend) -> None:
    """llguidance gives up and then allows only the end. That is no complete answer."""
    easy = backend.compile_grammar(JSON, '{"type": "string"}', stop_token_ids={END})
    assert follow(easy, backend, "a")
    hard = backend.compile_grammar(JSON, '{"type": "string", "pattern": ".*a.{200}"}')
    assert not follow(hard, backend, "a")


def test_whole_answer_ends(backend: GuidanceBackend) -> None:
    for kind, spec, answer in (
        (JSON, '{"const": 5}', "5"),
        (StructuredOutputOptions.JSON_OBJECT, "", "{}"),
        (StructuredOutputOptions.GRAMMAR, 'start: "::= x"', "::= x"),
        (StructuredOutputOptions.REGEX, "[0-9]{2}/x", "12/x"),
    ):
        grammar = backend.compile_grammar(kind, spec)
        assert grammar.accept_tokens("request", backend.tokenizer.encode(answer, add_special_tokens=False))
        assert grammar.accept_tokens("request", [END]) and grammar.is_terminated()


def test_wrong_grammar_is_an_error(backend: GuidanceBackend) -> None:
    for kind, spec in (
        (JSON, '{"not": {}}'),
        (StructuredOutputOptions.REGEX, "("),
        (StructuredOutputOptions.CHOICE, '["a"]'),
    ):
        with pytest.raises(ValueError):
            backend.compile_grammar(kind, spec)


def test_nothing_is_compiled_on_the_event_loop(backend: GuidanceBackend) -> None:
    """vLLM checks the parameters of a request there. This schema would take it minutes."""
    endless = json.dumps(
        {"type": "array", "items": {"type": "integer"}, "minItems": 10**6, "maxItems": 10**7}
    )
    params = SamplingParams(structured_outputs=StructuredOutputsParams(json=endless))
    model: Any = SimpleNamespace(is_diffusion=False)
    config: Any = SimpleNamespace(backend="guidance")
    params._validate_structured_outputs(model, config, backend.tokenizer)


@pytest.mark.parametrize("profile", ["local", "gpu"])
def test_every_model_has_the_same_backend(profile: str) -> None:
    settings = load_settings(profile)
    for model in settings.models:
        config: LLMConfig = llm_config(model, settings)
        given = vllm_arguments(config.get_engine_config().engine_kwargs)
        arguments = AsyncEngineArgs(structured_outputs_config=given["structured_outputs_config"])
        assert arguments.structured_outputs_config.backend == "guidance"

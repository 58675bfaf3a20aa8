"""How the engine compiles a grammar: within limits, and an answer that cannot be held to it is an error.

vLLM's `guidance` backend compiles a schema on the event loop of the replica to see whether it is valid, and
again in the engine. Here every schema was compiled before, in a process of its own (schema_compiler.py), so
the first is left out. llguidance's own limits let one token of one request cost seconds, during which no
tokens of others are made: the limits are those that the schema was tried with. And where llguidance gives up
in the middle, vLLM ends the answer as if it were whole; here the request fails. `register` puts this in the
place of vLLM's, as a plugin (`vllm.general_plugins`, pyproject.toml).
"""

from typing import Any

from llguidance import LLMatcher
from vllm.v1.structured_output import backend_guidance
from vllm.v1.structured_output.backend_guidance import GuidanceBackend, GuidanceGrammar
from vllm.v1.structured_output.backend_types import StructuredOutputOptions

from serve_app.model_server.schema_worker import LIMITS


def register() -> None:
    backend_guidance.validate_guidance_grammar = already_validated
    GuidanceBackend.compile_grammar = compile_within_limits


def already_validated(sampling_params: Any, tokenizer: Any = None) -> None:
    """In the place of a compilation on the event loop."""


class BoundedGrammar(GuidanceGrammar):
    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        """False, which fails the request, where llguidance has given up: its mask then asks for the end."""
        return not self.ll_matcher.is_error() and super().accept_tokens(request_id, tokens)


def compile_within_limits(
    self: GuidanceBackend, request_type: StructuredOutputOptions, grammar_spec: str, **_: Any
) -> BoundedGrammar:
    """Raises: ValueError, which fails the request."""
    grammar = _grammar(request_type, grammar_spec)
    matcher = LLMatcher(self.ll_tokenizer, grammar, log_level=0, limits=LIMITS)
    if matcher.is_error():
        raise ValueError("the grammar cannot be compiled within its limits")
    return BoundedGrammar(ll_matcher=matcher, ll_tokenizer=self.ll_tokenizer, vocab_size=self.vocab_size)


def _grammar(request_type: StructuredOutputOptions, spec: str) -> str:
    if request_type == StructuredOutputOptions.JSON:
        return str(LLMatcher.grammar_from_json_schema(spec))
    if request_type == StructuredOutputOptions.JSON_OBJECT:
        return str(LLMatcher.grammar_from_json_schema('{"type": "object"}'))
    if request_type == StructuredOutputOptions.REGEX:
        return str(LLMatcher.grammar_from_regex(spec))
    if request_type == StructuredOutputOptions.GRAMMAR:
        return str(LLMatcher.grammar_from_lark(spec))
    raise ValueError(f"no request of ours has a constraint of the kind {request_type.name}")

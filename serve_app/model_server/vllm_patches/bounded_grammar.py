"""Compiles grammars in the engine within limits, and fails a request whose answer cannot follow its grammar.

This plugin (`vllm.general_plugins`, pyproject.toml) changes three things in vLLM's `guidance` backend:

- vLLM compiles each schema on the event loop of the replica to validate it, and again in the engine. Here a
  separate process has compiled each schema before (schema_compiler.py), so the first compilation is left out.
- With llguidance's own limits, one token of one request can take seconds, in which no other request gets a
  token. Here the limits are those with which the schema was tried.
- If llguidance gives up in the middle of an answer, vLLM ends the answer as if it were complete. Here the
  request fails.
"""

from functools import wraps
from typing import Any

from llguidance import LLMatcher

from serve_app.model_server.schema_worker import LIMITS
from serve_app.model_server.vllm_private import (
    GuidanceBackend,
    GuidanceGrammar,
    StructuredOutputOptions,
    backend_guidance,
)


def register() -> None:
    backend_guidance.validate_guidance_grammar = already_validated
    GuidanceBackend.compile_grammar = compile_within_limits


def already_validated(sampling_params: Any, tokenizer: Any = None) -> None:
    """Does nothing. It replaces vLLM's compilation on the event loop."""


class BoundedGrammar(GuidanceGrammar):
    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        """Returns False, which fails the request, if llguidance has given up. vLLM would end the answer."""
        return not self.ll_matcher.is_error() and super().accept_tokens(request_id, tokens)


@wraps(GuidanceBackend.compile_grammar)
def compile_within_limits(
    self: GuidanceBackend, request_type: StructuredOutputOptions, grammar_spec: str, **_: Any
) -> BoundedGrammar:
    """Compiles a grammar. Raises: ValueError, which fails the request."""
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

"""The grammars that vLLM's layer asks for, in llguidance's form, with vLLM's own parsers of tool calls."""

import json
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser.parser_manager import ParserManager
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.tokenizers import get_tokenizer

from registry.errors import InvalidRequest
from serve_app.model_server.grammars import ANSWER, ConstrainedEngine, schemas_of, without_schema
from serve_app.model_server.schema_worker import compile_schemas

COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "::= blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {"size": {"type": "integer"}},
    "required": ["size"],
    "title": "Size",
}
PAINT = {"type": "function", "function": {"name": "paint", "parameters": COLOUR}}
WASH = {"type": "function", "function": {"name": "wash"}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}

CALL = {
    "hermes": '<tool_call>\n{"name": "paint", "arguments": {"colour": "red"}}\n</tool_call>',
    "llama3_json": '{"name": "paint", "parameters": {"colour": "red"}}',
}
NAMED = {"type": "function", "function": {"name": "paint"}}


class StubEngine:
    """An engine that keeps its requests."""

    model_config = "its own"

    def generate(self, prompt: Any, sampling_params: Any, request_id: str, **more: Any) -> Any:
        self.params = sampling_params
        return self


@pytest.fixture(scope="module")
def tokenizer(smollm2_weights: Path) -> LLTokenizer:
    return LLTokenizer(str(smollm2_weights / "tokenizer.json"), eos_token=2)


def wanted(weights: Path, parser: str, body: dict[str, Any]) -> StructuredOutputsParams | None:
    """The form that ConstrainedEngine wants of an answer, after vLLM's layer has adjusted the request."""
    kind = ParserManager.get_parser(
        tool_parser_name=parser,
        reasoning_parser_name=None,
        enable_auto_tools=True,
        model_name="model",
        tool_strict_level="parameter",
    )
    assert kind is not None
    tokenizer = get_tokenizer(str(weights))
    if parser == "llama3_json":
        tokenizer.get_vocab()["<|python_tag|>"] = 0  # without it this parser does not start
    request = ChatCompletionRequest(messages=[{"role": "user", "content": "x"}], **without_schema(body))
    adjusted = kind(tokenizer, request.tools).adjust_request(request)
    engine = StubEngine()
    constrained = ConstrainedEngine(engine, body)
    assert constrained.model_config == "its own"
    constrained.generate("prompt", adjusted.to_sampling_params(16, {}), "id")
    found: StructuredOutputsParams | None = engine.params.structured_outputs
    return found


def fits(tokenizer: LLTokenizer, params: StructuredOutputsParams, text: str) -> bool:
    if params.grammar is not None:
        grammar = LLMatcher.grammar_from_lark(params.grammar)
    elif params.regex is not None:
        grammar = LLMatcher.grammar_from_regex(params.regex)
    else:
        assert isinstance(params.json, str)
        grammar = LLMatcher.grammar_from_json_schema(params.json)
    matcher = LLMatcher(tokenizer, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokenizer.tokenize_str(text)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


@pytest.mark.parametrize("parser", CALL)
def test_calls_are_held(smollm2_weights: Path, tokenizer: LLTokenizer, parser: str) -> None:
    call = CALL[parser]
    wrong = call.replace("red", "green")
    for choice, may_talk in (("auto", True), ("required", False), (NAMED, False)):
        body = {"tools": [PAINT, WASH], "tool_choice": choice}
        params = wanted(smollm2_weights, parser, body)
        assert params is not None and params.grammar is not None
        assert fits(tokenizer, params, call), choice
        assert fits(tokenizer, params, call.replace("red", "::= blue")), choice
        assert not fits(tokenizer, params, wrong), choice
        assert fits(tokenizer, params, "Just a word.") == may_talk
        if may_talk:
            assert fits(tokenizer, params, f"Well, {call}")
            assert not fits(tokenizer, params, f"Well, {wrong}")
            assert fits(tokenizer, params, f"{call} And {call}")
        any_arguments = call.replace("paint", "wash").replace('"colour"', '"x": [1], "y"')
        assert fits(tokenizer, params, any_arguments) == (choice is not NAMED)


def test_one_call_at_most(smollm2_weights: Path, tokenizer: LLTokenizer) -> None:
    for choice in ("auto", "required"):
        body = {"tools": [PAINT], "tool_choice": choice, "parallel_tool_calls": False}
        params = wanted(smollm2_weights, "hermes", body)
        assert params is not None
        assert fits(tokenizer, params, CALL["hermes"])
        assert not fits(tokenizer, params, CALL["hermes"] * 2)


def test_schema_beside_tools(smollm2_weights: Path, tokenizer: LLTokenizer) -> None:
    params = wanted(smollm2_weights, "hermes", {"tools": [PAINT], "response_format": FORMAT})
    assert params is not None
    assert fits(tokenizer, params, CALL["hermes"])
    assert fits(tokenizer, params, '{"size": 5}')
    assert not fits(tokenizer, params, '{"size": "5"}')
    assert not fits(tokenizer, params, "Just a word.")


def test_schema_alone_and_any_object(smollm2_weights: Path, tokenizer: LLTokenizer) -> None:
    params = wanted(smollm2_weights, "hermes", {"response_format": FORMAT})
    assert params is not None and params.json is not None and "title" not in params.json
    assert fits(tokenizer, params, '{"size": 5}') and not fits(tokenizer, params, "{}")
    params = wanted(smollm2_weights, "hermes", {"response_format": {"type": "json_object"}})
    assert params is not None
    assert fits(tokenizer, params, '{"a": [1]}') and not fits(tokenizer, params, "[1]")
    assert wanted(smollm2_weights, "hermes", {}) is None
    assert wanted(smollm2_weights, "hermes", {"tools": [PAINT], "tool_choice": "none"}) is None


@pytest.mark.parametrize(
    ("held", "good", "bad"),
    [
        ({"choice": ["red", "blue", "a.b|c (d)[e]{2}^$\\/&~#-*+?"]}, "a.b|c (d)[e]{2}^$\\/&~#-*+?", "aXb|c"),
        ({"choice": ["red", "reddish"]}, "red", "redd"),
        ({"choice": ["red", "zwei\nZeilen \u864e"]}, "zwei\nZeilen \u864e", "zwei"),
        ({"regex": "[0-9]{2}/[a-z]+"}, "12/ab", "123/ab"),
        ({"regex": "a|b"}, "b", "ab"),
        ({"json": SCHEMA}, '{"size": 5}', "{}"),
        ({"json_object": True}, '{"a": [1]}', "[1]"),
    ],
)
def test_structured_outputs_are_held(
    smollm2_weights: Path, tokenizer: LLTokenizer, held: dict[str, Any], good: str, bad: str
) -> None:
    params = wanted(smollm2_weights, "hermes", {"structured_outputs": held})
    assert params is not None
    assert fits(tokenizer, params, good) and not fits(tokenizer, params, bad)
    if form := next(iter(schemas_of({"structured_outputs": held}).values()), None):
        assert compile_schemas(tokenizer, [form]).error is None


def test_form_of_calls_that_cannot_be_held(smollm2_weights: Path) -> None:
    """A model may write its calls as XML. Its tools are then refused and not left unchecked."""
    with pytest.raises(InvalidRequest) as error:
        wanted(smollm2_weights, "qwen3_coder", {"tools": [PAINT], "tool_choice": "required"})
    assert error.value.param == "tools"


def test_nothing_else_is_passed_on() -> None:
    for constraint in ({"regex": "a*"}, {"choice": ["a"]}, {"grammar": "start: TEXT"}):
        params = SamplingParams(structured_outputs=StructuredOutputsParams(**constraint))
        with pytest.raises(InvalidRequest):
            ConstrainedEngine(StubEngine(), {}).generate("prompt", params, "id")


def test_schemas_by_their_places() -> None:
    body = {"tools": [WASH, PAINT], "response_format": FORMAT}
    found = {place: json.loads(schema) for place, schema in schemas_of(body).items()}
    assert list(found) == [ANSWER, "tools.0.function.parameters", "tools.1.function.parameters"]
    assert found[ANSWER] == {key: value for key, value in SCHEMA.items() if key != "title"}
    assert found["tools.0.function.parameters"] == {"type": "object"}
    assert schemas_of({**body, "tool_choice": "none"}).keys() == {ANSWER}
    assert schemas_of({"response_format": {"type": "json_object"}}) == {}
    assert without_schema(body)["response_format"] == {"type": "json_object"}

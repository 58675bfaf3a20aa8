"""The schemas of a request are prepared before vLLM's layer sees it."""

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError

from registry.errors import InvalidRequest, TigerError
from serve_app.model_server.calls import OpenAICall
from serve_app.model_server.openai_layer import MAX_COMPILE_S, OpenAILayer
from serve_app.model_server.schema_compiler import SchemaCompiler
from serve_app.model_server.schema_worker import Reply
from training.chat_template import ToolSupport

SCHEMA = {"type": "object", "title": "Size", "properties": {"size": {"type": "integer"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}}}
PLACE = "response_format.json_schema.schema"


class StubWorker:
    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def ask(self, schemas: Sequence[str]) -> Reply:
        return self._reply

    async def stop(self) -> None:
        pass


class StubServing:
    """A serving object of vLLM that keeps the request, or fails as it does when the engine has given up."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.requests: list[Any] = []

    async def create_chat_completion(self, request: Any) -> Any:
        self.requests.append(request)
        if self._error is not None:
            raise self._error
        return SimpleNamespace(choices=[], model_dump_json=lambda exclude: "{}")


async def ask(reply: Reply, serving: StubServing, **body: Any) -> Any:
    compiler = SchemaCompiler(StubWorker(reply))
    compiler.start()
    try:
        body = {"messages": [{"role": "user", "content": "x"}], **body}
        call = OpenAICall(kind="chat", user="alice", model="base", revision=None, adapter_id=None, body=body)
        await OpenAILayer(serving, None, compiler, ToolSupport()).answer(call, engine=None, lora_request=None)
    finally:
        await compiler.stop()
    return serving.requests[0] if serving.requests else None


async def refused(reply: Reply, serving: StubServing, **body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        await ask(reply, serving, **body)
    return error.value


async def test_vllm_does_not_see_the_schema_of_the_answer() -> None:
    request = await ask(Reply(), StubServing(), response_format=FORMAT, tools=[TOOL])
    assert request.response_format.type == "json_object"
    assert request.tools[0].function.parameters == {"type": "object"}


async def test_refused_schema_does_not_get_to_vllm() -> None:
    serving = StubServing()
    error = await refused(Reply(error="no answer can follow it"), serving, response_format=FORMAT)
    assert (error.param, error.message) == (
        PLACE,
        "the engine cannot enforce this schema: no answer can follow it",
    )
    error = await refused(Reply(error="x", index=1), serving, response_format=FORMAT, tools=[TOOL])
    assert error.param == "tools.0.function.parameters"
    error = await refused(Reply(error="x"), serving, tools=[TOOL, TOOL])
    assert error.param == "tools"
    assert serving.requests == []


async def test_many_samples_of_a_dear_schema_are_refused() -> None:
    dear = Reply(seconds=MAX_COMPILE_S / 10)
    assert await ask(dear, StubServing(), response_format=FORMAT, n=10)
    assert (await refused(dear, StubServing(), response_format=FORMAT, n=11)).param == "n"


async def test_likeliest_answer_is_made_once_for_all_choices() -> None:
    dear = Reply(seconds=MAX_COMPILE_S / 2)
    request = await ask(dear, StubServing(), response_format=FORMAT, n=10, temperature=0)
    assert request.n == 10
    params = request.to_sampling_params(16, {})
    assert (params.n, params.temperature, params.max_tokens) == (1, 0, 16)
    request = await ask(Reply(), StubServing(), n=10, temperature=0.5)
    assert request.to_sampling_params(16, {}).n == 10


async def test_vllm_does_not_see_what_else_an_answer_is_held_to() -> None:
    for held in ({"choice": ["a"]}, {"regex": "a+"}, {"json": SCHEMA}, {"json_object": True}):
        request = await ask(Reply(), StubServing(), structured_outputs=held)
        assert (request.structured_outputs, request.response_format.type) == (None, "json_object")
    error = await refused(Reply(error="x"), StubServing(), structured_outputs={"regex": "a+"})
    assert (error.param, error.message) == (
        "structured_outputs.regex",
        "the engine cannot enforce this constraint: x",
    )


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("min_tokens must be less than or equal to max_tokens=4, got 5.", "min_tokens"),
        ("Token id 49152 is out of vocabulary", "prompt"),
        ("something is wrong", None),
    ],
)
async def test_field_that_vllm_only_speaks_of_is_to_blame(message: str, param: str | None) -> None:
    error = await refused(Reply(), StubServing(ValueError(message)), min_tokens=5, max_tokens=4)
    assert error.param == param


async def test_template_gets_its_values() -> None:
    """The renderer's own values come after those of the request, and win."""
    request = await ask(Reply(), StubServing(), chat_template_kwargs={"enable_thinking": False})
    values = request.build_chat_params(None, "auto").chat_template_kwargs
    assert (values["enable_thinking"], values["add_generation_prompt"]) == (False, True)


async def test_answer_that_came_to_no_end_is_the_schemas_error() -> None:
    error = await refused(Reply(), StubServing(TigerError("internal error")), response_format=FORMAT)
    assert error.param == PLACE
    with pytest.raises(TigerError, match="internal error"):
        await ask(Reply(), StubServing(TigerError("internal error")))


class StreamingServing(StubServing):
    """A stream whose engine has failed. vLLM's layer makes an event of the failure."""

    async def create_chat_completion(self, request: Any) -> Any:
        async def events() -> AsyncIterator[str]:
            yield 'data: {"error": {"message": "what the engine said"}}\n\n'

        return events()


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (VLLMValidationError("logit_bias has an unknown token", parameter="logit_bias"), InvalidRequest),
        (ValueError("the engine's own words"), ValueError),
    ],
)
async def test_only_what_the_engine_refuses_blames_the_client_of_a_stream(
    failure: Exception, expected: type[Exception]
) -> None:
    """Any other failure is passed on as it is. The ingress logs it and answers only with "internal error"."""
    layer = OpenAILayer(StreamingServing(), None, SchemaCompiler(StubWorker(Reply())), ToolSupport())
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    call = OpenAICall(kind="chat", user="alice", model="base", revision=None, adapter_id=None, body=body)
    with pytest.raises(expected) as raised:
        async for _ in layer.events(call, SimpleNamespace(failure=failure), None):
            raise AssertionError("an event came through")
    assert getattr(raised.value, "param", "logit_bias") == "logit_bias"

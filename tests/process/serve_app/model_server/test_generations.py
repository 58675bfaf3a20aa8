"""Generations with the parameters of the real vLLM, a small tokenizer, and an engine that the test plays."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from registry.errors import ContextLengthExceeded, TigerError
from registry.records import Message, utc_now
from registry.usage import Usage
from serve_app.model_server.admission import Admission
from serve_app.model_server.calls import GenerationCall
from serve_app.model_server.generations import Generations
from serve_app.model_server.request_engine import RequestEngine
from serve_app.settings import BaseModelSettings
from tests.support.tokenizers import byte_level

BASE = BaseModelSettings(
    id="base", name="Base", description="", last_modified=utc_now(), source="/nowhere",
    max_context_tokens=256, rank=8, max_rank=16,
)  # fmt: skip


class Engine:
    """Gives these texts as outputs, one token each. The last text ends the sample."""

    errored = False
    output_processor = SimpleNamespace(external_req_ids={}, request_states={})

    def __init__(self, *texts: str) -> None:
        self._texts = texts
        self.params: list[Any] = []

    async def generate(
        self, prompt: Any, params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]:
        self.params.append(params)
        for number, text in enumerate(self._texts, 1):
            sample = SimpleNamespace(
                index=0, text=text, token_ids=[7], stop_reason=None,
                finish_reason="length" if number == len(self._texts) else None,
            )  # fmt: skip
            yield SimpleNamespace(prompt_token_ids=[1], prompt_logprobs=None, outputs=[sample])

    async def abort(self, request_ids: list[str]) -> None:
        """Do nothing: a generator stops when it is closed."""


class Counts:
    """A meter that adds up."""

    def __init__(self) -> None:
        self.output_tokens = 0

    def count(self, user: str, model: str, usage: Usage) -> None:
        self.output_tokens += usage.output_tokens


@asynccontextmanager
async def no_adapter(engine: RequestEngine, call: GenerationCall) -> AsyncIterator[None]:
    yield None


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def tokenizer() -> Any:
    return byte_level()


def generations(engine: Engine, tokenizer: Any, counts: Counts) -> Generations:
    admission = Admission(16, 8, 10_000, 512, 1.0)

    def admit(call: GenerationCall, num_samples: int) -> RequestEngine:
        return RequestEngine(engine, call.user, call.model, admission, counts, 1, num_samples)

    return Generations(BASE, tokenizer, counts, admit, no_adapter, is_loaded=lambda adapter_id: False)


def call(**fields: Any) -> GenerationCall:
    values: dict[str, Any] = {
        "user": "alice", "model": "mine", "revision": 1, "adapter_id": None, "n": 1, "temperature": 0.5,
        "messages": (Message(role="user", content="Hi"),), "top_p": 0.9, "max_tokens": 2, "stop": (),
        "seed": 3,
    }  # fmt: skip
    return GenerationCall(**values | fields)


async def test_stream_has_the_text_and_ends_with_the_usage(tokenizer: Any, counts: Counts) -> None:
    stream = generations(Engine("Hel", "lo"), tokenizer, counts).stream(call(adapter_id="uid@1"))
    info, first, second, stop = [json.loads(line) async for line in stream]
    assert (info["type"], first["delta"], second["delta"]) == ("info", "Hel", "lo")
    assert (stop["type"], stop["stop_reason"], stop["usage"]["output_tokens"]) == ("stop", "max_tokens", 2)


async def test_equal_samples_are_generated_once_and_counted_all(tokenizer: Any, counts: Counts) -> None:
    engine = Engine("Hello")
    generation = await generations(engine, tokenizer, counts).generate(call(n=3, temperature=0))
    assert [completion.content for completion in generation.completions] == ["Hello"] * 3
    assert (generation.output_tokens, counts.output_tokens, engine.params[0].n) == (3, 3, 1)


async def test_engine_without_an_output_is_an_internal_error(tokenizer: Any, counts: Counts) -> None:
    """The stream ended with an UnboundLocalError, and the other call with an IndexError."""
    silent = generations(Engine(), tokenizer, counts)
    with pytest.raises(TigerError, match="internal error"):
        [line async for line in silent.stream(call())]
    with pytest.raises(TigerError, match="internal error"):
        await silent.generate(call())


async def test_messages_leave_room_for_the_answer(tokenizer: Any, counts: Counts) -> None:
    with pytest.raises(ContextLengthExceeded) as raised:
        await generations(Engine("Hello"), tokenizer, counts).generate(call(max_tokens=250))
    assert raised.value.param == "messages"

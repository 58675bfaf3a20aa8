"""A small fake in the place of a model server and its engine. Files give it orders and record its calls."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

from registry.errors import ContextLengthExceeded, InvalidRequest
from registry.meter import Meter
from registry.records import JobRequest
from registry.store import ObjectStore
from registry.usage import UsageParts, durations
from serve_app.cannot_start import CannotStart
from serve_app.deployed_settings import Document, served_settings
from serve_app.model_server.admission import Admission
from serve_app.model_server.calls import Completion, Generation, GenerationCall, OpenAICall
from serve_app.model_server.client import ModelReplica
from serve_app.model_server.load_report import ReportsLoad
from serve_app.model_server.request_engine import RequestEngine
from serve_app.model_server.taught_conversations import conversations_of, field_of_all
from serve_app.ray_private import user_config_of_this_replica
from serve_app.replica_address import listen_at_the_node


class FakeEngine:
    """An engine that returns tokens as vLLM does, for the first sample.

    A final output has four tokens, and any other output one.
    """

    errored = False
    output_processor = SimpleNamespace(external_req_ids={}, request_states={})

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s

    async def generate(
        self, prompt: Any, params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]:
        is_final = params.output_kind.name == "FINAL_ONLY"
        for _ in range(1 if is_final else params.max_tokens):
            sample = SimpleNamespace(index=0, token_ids=[7] * (4 if is_final else 1), finish_reason=None)
            yield SimpleNamespace(
                prompt_token_ids=prompt["prompt_token_ids"], prompt_logprobs=None, outputs=[sample]
            )
            if params.max_tokens > 1:
                await asyncio.sleep(self._pause_s)

    async def abort(self, request_ids: list[str]) -> None:
        """Do nothing: a generator stops when it is closed."""


@final
class FakeModelServer(ReportsLoad, ModelReplica):
    """A fake without vLLM. Files in `signals` give orders and record its calls."""

    def __init__(self, signals: Path, args: Document) -> None:
        listen_at_the_node()
        self._args = args
        settings = served_settings(args, user_config_of_this_replica())
        limits = settings.limits
        self._admission = Admission(
            16, limits.max_concurrent_generations_per_user, limits.max_queued_tokens_per_user, 512, 1.0
        )
        self._meter = Meter(UsageParts(ObjectStore(settings.storage)), settings.usage.flush_interval_s)
        self._meter.start()
        self._signals = signals
        self._base_model = settings.base_model.id
        if (signals / f"broken {self._base_model}").exists():
            raise CannotStart("a file says that it is broken")
        while self._is_down():
            time.sleep(0.05)

    async def reconfigure(self, user_config: Document) -> None:
        limits = served_settings(self._args, user_config).limits
        self._admission.set_limits(
            limits.max_concurrent_generations_per_user, limits.max_queued_tokens_per_user, 1.0
        )

    async def check_health(self) -> None:
        if self._is_down():
            raise RuntimeError("down")
        if (self._signals / f"slow {self._base_model}").exists():
            await asyncio.sleep(0.7)

    async def __del__(self) -> None:
        await self._meter.close()

    async def _outputs(
        self, call: GenerationCall, kind: str, max_tokens: int, pause_s: float = 0.02
    ) -> AsyncGenerator[Any, None]:
        params = SimpleNamespace(n=call.n, max_tokens=max_tokens, output_kind=SimpleNamespace(name=kind))
        engine = FakeEngine(pause_s)
        async with RequestEngine(
            engine, call.user, call.model, self._admission, self._meter, 1, call.n
        ) as request_engine:
            async for output in request_engine.generate({"prompt_token_ids": [1, 2, 3]}, params, "request"):
                yield output

    async def generate(self, call: GenerationCall) -> Generation:
        if call.messages[-1].content == "break":
            raise RuntimeError("secret of the replica")
        async for _ in self._outputs(call, "FINAL_ONLY", 4):
            pass
        return Generation(
            completions=(
                Completion(content=call.model_dump_json(), stop_reason="end_turn", output_tokens=4 // call.n),
            )
            * call.n,
            input_tokens=3,
            output_tokens=4,
            duration_s=0.25,
        )

    async def generate_stream(self, call: GenerationCall) -> AsyncIterator[str]:
        what = call.messages[-1].content
        if what == "too long":
            raise ContextLengthExceeded("too long", "messages")
        num_tokens = 10**4 if what.startswith("endless") else 1
        outputs = self._outputs(call, "DELTA", num_tokens, 0.02 if what == "endless" else 0.5)
        try:
            async with aclosing(outputs):
                async for _ in outputs:
                    yield _line(type="delta", delta="Hi ")
            if what == "break":
                raise RuntimeError("secret of the replica")
            usage = {"input_tokens": 3, "output_tokens": 1, **durations(0.1)}
            yield _line(
                type="stop",
                id=call.id,
                stop_reason="end_turn",
                model=call.model,
                revision=call.revision,
                usage=usage,
            )
        finally:
            (self._signals / f"ended {call.seed}").touch()

    async def openai_answer(self, call: OpenAICall) -> str:
        return json.dumps(_openai_object(call, "message" if call.kind == "chat" else "text"))

    async def openai_events(self, call: OpenAICall) -> AsyncIterator[str]:
        is_endless = call.body.get("messages", [{}])[-1].get("content") == "endless"
        for _ in range(10**4 if is_endless else 1):
            yield f"data: {json.dumps(_openai_object(call, 'delta' if call.kind == 'chat' else 'text'))}\n\n"
            await asyncio.sleep(0.02 if is_endless else 0)
        yield "data: [DONE]\n\n"

    async def count_training_tokens(
        self, user: str, request: JobRequest, max_tokens: int, is_single: bool
    ) -> int:
        """Check lengths: a character is a token, and what follows a prompt may have a thousand."""
        total = 0
        for conversation in conversations_of(request, is_single):
            length = sum(len(turn.content) for turn in conversation.turns)
            if length > 1000:
                raise ContextLengthExceeded("too long", conversation.path)
            total += length
        if total > max_tokens:
            message = f"the responses have {total} tokens; one training takes at most {max_tokens}"
            raise InvalidRequest(message, field_of_all(request, is_single))
        return total

    async def preload(self, adapter_id: str) -> None:
        (self._signals / f"preloaded {adapter_id}").touch()

    async def unload(self, uid: str) -> None:
        (self._signals / f"unloaded {uid}").touch()

    async def finish_generations(self, epoch: int | None) -> None:
        (self._signals / f"finished {self._base_model}").touch()

    async def lend_gpu(self, epoch: int | None) -> None:
        (self._signals / f"lent {self._base_model}").touch()

    async def take_back_gpu(self, epoch: int | None) -> None:
        (self._signals / f"lent {self._base_model}").unlink(missing_ok=True)

    async def num_waiting_for_gpu(self) -> int:
        return 0

    def _is_down(self) -> bool:
        return (self._signals / f"down {self._base_model}").exists()


def _openai_object(call: OpenAICall, text_field: str) -> dict[str, Any]:
    text: Any = "Hi" if call.kind == "text" else {"role": "assistant", "content": "Hi"}
    name = {"message": "chat.completion", "delta": "chat.completion.chunk", "text": "text_completion"}
    return {
        "id": "cmpl-1",
        "object": name[text_field],
        "created": 1738499698,
        "model": call.answering,
        "choices": [
            {"index": index, "finish_reason": "stop", "logprobs": None, text_field: text}
            for index in range(call.body.get("n") or 1)
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }


def _line(**chunk: Any) -> str:
    return json.dumps(chunk) + "\n"

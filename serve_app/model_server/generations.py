"""Answers the calls of our own API: all completions at once, or NDJSON lines while the text is generated.

    call  ->  prompt  ->  adapter lease  ->  RequestEngine  ->  completions or NDJSON lines

The prompt is rendered here with the tokenizer's own chat template, as in the trainer, so that training and
generation see the same tokens. The lines are made here too, and the ingress passes them on.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from registry.errors import INTERNAL_ERROR, ContextLengthExceeded, InvalidRequest, TigerError
from registry.json_text import compact_json
from registry.usage import Usage, durations
from serve_app.model_server.calls import Completion, Generation, GenerationCall, cache_salt_of
from serve_app.model_server.request_engine import RequestEngine
from serve_app.model_server.running_count import UsageMeter
from serve_app.serving_settings import ServedModelSettings
from serve_app.wire.generate import StopReason
from training.conversation import tokenise_prompt


class Generations:
    """Generates for one base model. `admit(call, num_samples)` returns the engine for one request.

    `leased(engine, call)` yields vLLM's request for the call's adapter. `is_loaded` says if an adapter is
    loaded.

    Raises (all): ContextLengthExceeded, InvalidRequest, ModelNotFound, ModelUnusable, RateLimited,
    RevisionNotFound, Unavailable; TigerError if the engine ended a sample without a reason.
    """

    def __init__(
        self,
        base: ServedModelSettings,
        tokenizer: Any,
        meter: UsageMeter,
        admit: Callable[[GenerationCall, int], RequestEngine],
        leased: Callable[[RequestEngine, GenerationCall], AbstractAsyncContextManager[Any | None]],
        is_loaded: Callable[[str], bool],
    ) -> None:
        self.base = base
        self._tokenizer = tokenizer
        self._meter = meter
        self._admit = admit
        self._leased = leased
        self._is_loaded = is_loaded

    async def generate(self, call: GenerationCall) -> Generation:
        """Returns all completions of a call."""
        from vllm.sampling_params import RequestOutputKind

        start = time.monotonic()
        # At temperature 0 all samples are the same, and vLLM refuses to make more than one.
        samples = 1 if call.temperature == 0 else call.n
        async with self._admit(call, samples) as engine:
            prompt = await self._prompt(call)
            async with self._leased(engine, call) as lora_request:
                outputs = self._run(engine, call, prompt, RequestOutputKind.FINAL_ONLY, lora_request)
                (final,) = [output async for output in outputs]
        completions = tuple(
            Completion(
                content=c.text,
                stop_reason=_stop_reason(c.finish_reason, c.stop_reason),
                output_tokens=len(c.token_ids),
            )
            for c in final.outputs
        )
        num_tokens = sum(c.output_tokens for c in completions)
        if samples != call.n:
            self._meter.count(call.user, call.model, Usage(output_tokens=num_tokens * (call.n - samples)))
            completions, num_tokens = completions * call.n, num_tokens * call.n
        return Generation(
            completions=completions,
            input_tokens=len(prompt),
            output_tokens=num_tokens,
            duration_s=time.monotonic() - start,
        )

    async def stream(self, call: GenerationCall) -> AsyncGenerator[str, None]:
        """Yields NDJSON lines: `info` if the adapter has to be loaded, `delta` with text, then `stop`."""
        from vllm.sampling_params import RequestOutputKind

        start = time.monotonic()
        num_tokens = 0
        completion = None
        async with self._admit(call, 1) as engine:
            prompt = await self._prompt(call)
            # After the first line, a refusal could no longer be the status of the answer.
            engine.claim(len(prompt) + self._max_tokens(call, prompt))
            if call.adapter_id is not None and not self._is_loaded(call.adapter_id):
                yield _line(type="info", message=f"Loading model {call.model}")
            async with self._leased(engine, call) as lora_request:
                async for output in self._run(engine, call, prompt, RequestOutputKind.DELTA, lora_request):
                    completion = output.outputs[0]
                    num_tokens += len(completion.token_ids)
                    if completion.text:
                        yield _line(type="delta", delta=completion.text)
        if completion is None:
            raise TigerError(INTERNAL_ERROR)  # the engine ended the request without an output
        yield _line(
            type="stop",
            id=call.id,
            stop_reason=_stop_reason(completion.finish_reason, completion.stop_reason),
            model=call.model,
            revision=call.revision,
            usage={
                "input_tokens": len(prompt),
                "output_tokens": num_tokens,
                **durations(time.monotonic() - start),
            },
        )

    async def _prompt(self, call: GenerationCall) -> list[int]:
        try:
            prompt = await asyncio.to_thread(tokenise_prompt, self._tokenizer, call.messages)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, "messages") from None
        limit = self.base.max_context_tokens
        if len(prompt) + (call.max_tokens or 1) > limit:
            asked = f" and max_tokens is {call.max_tokens}" if call.max_tokens else ""
            message = f"the messages have {len(prompt)} tokens{asked}; the model takes {limit} in all"
            raise ContextLengthExceeded(message, "messages")
        return prompt

    def _max_tokens(self, call: GenerationCall, prompt: list[int]) -> int:
        room = self.base.max_context_tokens - len(prompt)
        return call.max_tokens or min(room, self.base.default_max_tokens)

    def _run(
        self,
        engine: RequestEngine,
        call: GenerationCall,
        prompt: list[int],
        output_kind: Any,
        lora_request: Any,
    ) -> AsyncGenerator[Any, None]:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        params = SamplingParams(
            n=engine.num_samples,
            temperature=call.temperature,
            top_p=call.top_p,
            max_tokens=self._max_tokens(call, prompt),
            stop=list(call.stop),
            seed=call.seed,
            output_kind=output_kind,
        )
        tokens = TokensPrompt(prompt_token_ids=prompt, cache_salt=cache_salt_of(call.user))
        return engine.generate(tokens, params, uuid.uuid4().hex, lora_request=lora_request)


def _line(**chunk: Any) -> str:
    return compact_json(chunk) + "\n"


def _stop_reason(finish_reason: str | None, matched: str | int | None) -> StopReason:
    if finish_reason == "length":
        return "max_tokens"
    return "stop_sequence" if isinstance(matched, str) else "end_turn"

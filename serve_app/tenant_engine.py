"""vLLM's engine as one user's request sees it: admitted, in turn, and counted.

    generate  ->  Admission.admit (RateLimited)  ->  turn  ->  AsyncLLM.generate  ->  outputs, counted

vLLM's own OpenAI layer takes a TenantEngine for its engine client, and so does ModelServer.

What is guaranteed beside a greedy user, with the scheduling policy `priority` (lower is earlier):

- A request whose user has nothing in the engine goes there at once and finds a free place, because nobody
  else may take the last ones (serve_app.admission). Only users with nothing running, or one request with
  many samples, can fill them; then it is the next to get one, before all requests of users who have more
  in progress: the priority is the number of the user's other generations in progress.
- vLLM preempts a running sequence only when a running one needs memory for its next token and there is
  none; then the one with the highest priority number goes, the latest of a greedy user. A waiting request
  preempts nothing: while the memory for its prompt is missing it waits, ahead of lower ones.
- Adapters beyond `max_loras` at once wait for one of the running ones to be free, out of turn.

A priority that a client sent is not looked at.
"""

import asyncio
import secrets
import time
import weakref
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from registry.errors import ModelUnusable, TigerError
from registry.usage import Usage
from serve_app.admission import Admission, Ticket

ABORT_TIMEOUT_S = 1.0
TELL_INTERVAL_S = 1.0
SENSELESS = "senseless"
"""The stop reason of a request that ended for its logits (serve_app.finite_numbers)."""
UNUSABLE = "the model cannot be used: its weights give no finite numbers"


class UsageMeter(Protocol):
    def count(self, user: str, model: str, usage: Usage) -> None: ...


class TenantEngine:
    """For one HTTP request of one user; `model_id` is what its usage is counted under.

    Everything but `generate` is the engine's own.
    """

    def __init__(
        self, engine: Any, user: str, model_id: str, admission: Admission, meter: UsageMeter
    ) -> None:
        self._engine = engine
        self._user = user
        self._model_id = model_id
        self._admission = admission
        self._meter = meter
        self.failure: TigerError | None = None  # for vLLM's layer, which streams an error in its own words

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_engine":  # a copy that is not initialised yet
            raise AttributeError(name)
        return getattr(self._engine, name)

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]:
        """The engine's outputs. What is never read from, or not to the end, is released and counted too.

        Raises: RateLimited, at once; ModelUnusable, TigerError while the outputs are read.
        """
        num_prompt_tokens = _num_prompt_tokens(prompt)
        num_samples = sampling_params.n
        more["priority"] = self._admission.num_generations(self._user) + num_samples - 1
        ticket = self._admission.admit(
            self._user,
            num_samples,
            num_samples * (num_prompt_tokens + self._max_tokens(sampling_params, num_prompt_tokens)),
        )
        # Ids come from clients; an abort by id must not end the request of another one.
        engine_id = f"{request_id}-{secrets.token_hex(8)}"
        outputs = self._outputs(ticket, prompt, sampling_params, engine_id, more)
        # A generator that nobody begins to read from runs no `finally`.
        loop = asyncio.get_running_loop()
        weakref.finalize(outputs, _release_soon, loop, ticket).atexit = False
        return outputs

    def _max_tokens(self, sampling_params: Any, num_prompt_tokens: int) -> int:
        if sampling_params.max_tokens is not None:
            return int(sampling_params.max_tokens)
        return max(int(self._engine.model_config.max_model_len) - num_prompt_tokens, 0)

    async def _outputs(
        self, ticket: Ticket, prompt: Any, sampling_params: Any, engine_id: str, more: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        kind = sampling_params.output_kind.name
        try:
            await ticket.turn()
            count = RunningCount(self._meter, self._user, self._model_id, _num_prompt_tokens(prompt), kind)
            outputs = self._engine.generate(prompt, sampling_params, engine_id, **more)
            try:
                if kind == "FINAL_ONLY":
                    final = await self._final(outputs, engine_id, count)
                    raise_of_ended(final)
                    yield final
                    return
                async with aclosing(outputs):
                    async for output in outputs:
                        count.add(output)
                        raise_of_ended(output)
                        yield output
            except TigerError as error:
                self.failure = error
                raise
            except (asyncio.CancelledError, GeneratorExit):
                count.abandon()
                raise
            finally:
                count.tell()
        finally:
            ticket.release()

    async def _final(self, outputs: AsyncGenerator[Any, None], engine_id: str, count: "RunningCount") -> Any:
        """The one output. If nobody waits for it any more, vLLM is asked what it has generated so far."""
        final = asyncio.ensure_future(_last(outputs))
        try:
            output = await asyncio.shield(final)
        except asyncio.CancelledError:
            try:
                await self._engine.abort(engine_id)
                await asyncio.wait([final], timeout=ABORT_TIMEOUT_S)
            finally:
                if not final.cancel() and not final.cancelled() and final.exception() is None:
                    count.add(final.result())
            raise
        count.add(output)
        return output


def raise_of_ended(output: Any) -> None:
    """Raises: ModelUnusable, TigerError if the engine ended a sample with an error."""
    for sample in output.outputs:
        if sample.finish_reason == "error":
            if sample.stop_reason == SENSELESS:
                raise ModelUnusable(UNUSABLE, "model")
            raise TigerError("internal error")


async def _last(outputs: AsyncGenerator[Any, None]) -> Any:
    return [output async for output in outputs][-1]


class RunningCount:
    """Tells the meter every second what has come: a death costs hardly more than what was not flushed."""

    def __init__(
        self, meter: UsageMeter, user: str, model_id: str, num_prompt_tokens: int, kind: str
    ) -> None:
        self._meter = meter
        self._key = user, model_id
        self._num_prompt_tokens = num_prompt_tokens
        self._is_delta = kind == "DELTA"
        self._told_at = time.monotonic()
        self._tokens_of_sample: dict[int, int] = {}
        self._num_untold = 0
        self._has_more = False
        self._is_told = False

    def add(self, output: Any) -> None:
        """An output has the new tokens of a sample, or with other kinds than DELTA all it has so far."""
        if not self._num_prompt_tokens:
            self._num_prompt_tokens = len(output.prompt_token_ids or ())
        for sample in output.outputs:
            known = 0 if self._is_delta else self._tokens_of_sample.get(sample.index, 0)
            self._tokens_of_sample[sample.index] = len(sample.token_ids)
            self._num_untold += max(len(sample.token_ids) - known, 0)
        self._has_more = True
        if time.monotonic() - self._told_at >= TELL_INTERVAL_S:
            self.tell()

    def abandon(self) -> None:
        """The client vanished: its seconds count to here, and its prompt even if no output has come."""
        self._has_more = True

    def tell(self) -> None:
        """What has not been told yet. Without any, as when the engine refuses a request, nothing is."""
        if not self._has_more:
            return
        now = time.monotonic()
        usage = Usage(
            requests=0 if self._is_told else 1,
            input_tokens=0 if self._is_told else self._num_prompt_tokens,
            output_tokens=self._num_untold,
            generation_seconds=now - self._told_at,
        )
        self._told_at, self._is_told, self._num_untold, self._has_more = now, True, 0, False
        self._meter.count(*self._key, usage)


def _num_prompt_tokens(prompt: Any) -> int:
    """0 where the engine is to tokenise: its outputs say how many there were."""
    return len(prompt.get("prompt_token_ids") or ()) if isinstance(prompt, Mapping) else 0


def _release_soon(loop: asyncio.AbstractEventLoop, ticket: Ticket) -> None:
    """Called by the garbage collector, in whatever thread."""
    if not ticket.is_released and not loop.is_closed():
        loop.call_soon_threadsafe(ticket.release)

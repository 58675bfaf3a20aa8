"""Wraps vLLM's engine for one request of one user: admits the request, waits for its turn, counts its usage.

    async with  ->  Admission.admit (RateLimited)
    generate    ->  claim (RateLimited)  ->  turn  ->  AsyncLLM.generate  ->  outputs, counted
    the end     ->  what still runs is aborted, every ticket is released

vLLM's own OpenAI layer uses a RequestEngine as its engine client, and so does ModelServer. When the `async
with` block ends for any reason, the engine has nothing more of the request, even if no generator was closed.

These guarantees hold beside a greedy user, with the scheduling policy `priority` (lower is earlier):

- A request whose user has nothing in the engine goes there at once. It finds a free place, because others
  may not take the last ones (model_server.admission). Only users with nothing running, or one prompt with
  many samples, can fill them. Then this request is the next to get a place, before all requests of users with
  more in progress: the priority is the number of the user's other generations in progress.
- vLLM preempts a running sequence only if a running one needs memory for its next token and there is none. It
  preempts the sequence with the highest priority number, which is the latest one of a greedy user. A waiting
  request preempts nothing. While there is no memory for its prompt, it waits before those with higher
  numbers.
- If more than `max_loras` adapters are in use, a request with a further adapter waits until one is free. Its
  priority does not help it.

A priority that a client sends is ignored.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from registry.errors import INTERNAL_ERROR, ModelUnusable, TigerError, Unavailable
from serve_app.model_server.admission import Admission, Ticket
from serve_app.model_server.running_count import RunningCount, UsageMeter
from serve_app.model_server.vllm_objects_private import reads_prompt

ABORT_TIMEOUT_S = 1.0
READING_INTERVAL_S = 0.05
STOPPED = "the model has stopped and is being started again; try again later"
SENSELESS = "senseless"
"""The stop reason of a request that ended because of its logits (vllm_patches.finite_numbers)."""
UNUSABLE = "the model cannot be used: its weights give no finite numbers"


class RequestEngine:
    """The engine for one HTTP request of one user, with `num_prompts` prompts and `num_samples` for each.

    Usage is counted for the model `model_id`. Each sample is returned and counted `num_copies` times. All
    attributes except `generate` are those of the engine.

    Raises: RateLimited, Unavailable on entering; Unavailable on leaving, if an error came from a dead engine.
    """

    def __init__(
        self,
        engine: Any,
        user: str,
        model_id: str,
        admission: Admission,
        meter: UsageMeter,
        num_prompts: int = 1,
        num_samples: int = 1,
        num_copies: int = 1,
    ) -> None:
        self._engine = engine
        self._user = user
        self._model_id = model_id
        self._admission = admission
        self._meter = meter
        self._num_prompts = num_prompts
        self.num_samples = num_samples
        self._num_copies = num_copies
        self.failure: Exception | None = None
        """The error that ended a generation. In a stream, vLLM's layer turns it into an event of its own."""
        self.on_begun: Callable[[], None] = lambda: None
        """Called when the engine has begun to compute a generation of this request, and later again."""
        self._tickets: list[Ticket] = []
        self._untaken: Iterator[Ticket] = iter(())
        self._runs: list[Run] = []

    async def __aenter__(self) -> Self:
        self._raise_if_dead()
        self._tickets = self._admission.admit(self._user, self.num_samples, self._num_prompts)
        self._untaken = iter(tuple(self._tickets))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
        if isinstance(error, Exception) and not isinstance(error, TigerError):
            self._raise_if_dead()

    async def aclose(self) -> None:
        """Ends the generations that still run, and gives all tickets back."""
        left = [run for run in self._runs if not run.ticket.is_released]
        for ticket in self._tickets:
            ticket.release()
        if left:
            await self._end(left)

    def claim(self, num_tokens: int) -> None:
        """Claims `num_tokens` tokens for each sample of the first prompt, before `generate` would do it.

        Raises: RateLimited.
        """
        self._tickets[0].claim(self.num_samples * num_tokens)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_engine":  # this object may be a copy without attributes yet
            raise AttributeError(name)
        return getattr(self._engine, name)

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]:
        """Returns the engine's outputs for the next prompt.

        Raises: RateLimited, at once; Unavailable, ModelUnusable, TigerError while the outputs are read.
        """
        ticket = self._next_ticket(sampling_params.n)
        num_prompt_tokens = _num_prompt_tokens(prompt)
        ticket.claim(
            ticket.num_samples * (num_prompt_tokens + self._max_tokens(sampling_params, num_prompt_tokens))
        )
        ticket.num_prompt_tokens = num_prompt_tokens
        more["priority"] = self._admission.num_generations(self._user) - 1
        # Clients choose ids. The suffix ensures that an abort by id does not end another client's request.
        run = Run(ticket, f"{request_id}-{secrets.token_hex(8)}")
        run.outputs = self._outputs(run, prompt, sampling_params, more)
        self._runs.append(run)
        return run.outputs

    def _next_ticket(self, num_samples: int) -> Ticket:
        """Returns the next ticket. If vLLM's layer asks for more than was admitted, it admits one more."""
        ticket = next(self._untaken, None)
        if ticket is None or ticket.num_samples != num_samples:
            (ticket,) = self._admission.admit(self._user, num_samples)
            self._tickets.append(ticket)
        return ticket

    def _max_tokens(self, sampling_params: Any, num_prompt_tokens: int) -> int:
        if sampling_params.max_tokens is not None:
            return int(sampling_params.max_tokens)
        return max(int(self._engine.model_config.max_model_len) - num_prompt_tokens, 0)

    def _raise_if_dead(self) -> None:
        if self._engine.errored:
            raise Unavailable(STOPPED) from None

    async def _outputs(
        self, run: "Run", prompt: Any, sampling_params: Any, more: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        kind = sampling_params.output_kind.name
        run.reader = _current_task()
        try:
            await run.ticket.turn()
            count = RunningCount(
                self._meter,
                self._user,
                self._model_id,
                _num_prompt_tokens(prompt),
                kind,
                self._num_copies,
            )
            outputs = self._engine.generate(prompt, sampling_params, run.engine_id, **more)
            try:
                if kind == "FINAL_ONLY":
                    final = await self._final(outputs, run, count)
                    raise_of_ended(final)
                    yield self._copied(final)
                    return
                async with aclosing(outputs):
                    async for output in outputs:
                        self._begun(run)
                        count.add(output)
                        raise_of_ended(output)
                        run.keep_prompt(output)
                        yield self._copied(output)
                        run.reader = _current_task()
            except (asyncio.CancelledError, GeneratorExit):
                count.abandon()
                raise
            except Exception as error:
                self.failure = error
                if self._engine.errored:
                    self.failure = Unavailable(STOPPED)
                    raise self.failure from None
                raise
            finally:
                count.tell()
        finally:
            run.ticket.release()
            run.ended.set_result(None)

    def _copied(self, output: Any) -> Any:
        """Copies the sample of a greedy request, if the answer has several choices."""
        if self._num_copies > 1:
            (sample,) = output.outputs
            output.outputs = [replace(sample, index=index) for index in range(self._num_copies)]
        return output

    async def _end(self, runs: "list[Run]") -> None:
        """Aborts the runs in the engine, and waits up to ABORT_TIMEOUT_S for the count of their usage."""
        waiting = []
        for run in runs:
            try:
                await run.outputs.aclose()
            except RuntimeError:  # a task of vLLM's layer waits for its next output
                run.reader.cancel()
                waiting.append(run.ended)
        if waiting:
            await asyncio.wait(waiting, timeout=ABORT_TIMEOUT_S)
        await self._engine.abort([run.engine_id for run in runs])

    async def _final(self, outputs: AsyncGenerator[Any, None], run: "Run", count: "RunningCount") -> Any:
        """Returns the only output. If the client went away, aborts and counts what was generated so far."""
        final = asyncio.ensure_future(_last(outputs))
        try:
            while self._reads_prompt(run.engine_id) and not final.done():
                await asyncio.wait([final], timeout=READING_INTERVAL_S)
            self._begun(run)
            output = await asyncio.shield(final)
        except asyncio.CancelledError:
            try:
                await self._engine.abort(run.engine_id)
                await asyncio.wait([final], timeout=ABORT_TIMEOUT_S)
            finally:
                if not final.cancel() and not final.cancelled() and final.exception() is None:
                    count.add(final.result())
            raise
        count.add(output)
        return output

    def _begun(self, run: "Run") -> None:
        run.ticket.prompt_is_read()
        self.on_begun()

    def _reads_prompt(self, engine_id: str) -> bool:
        """Returns True until the engine has read the prompt, also before the engine knows the request."""
        return reads_prompt(self._engine, engine_id)


class Run:
    """One call of `generate`. `reader` is the task that asked for an output last."""

    outputs: AsyncGenerator[Any, None]
    reader: "asyncio.Task[Any]"

    def __init__(self, ticket: Ticket, engine_id: str) -> None:
        self.ticket = ticket
        self.engine_id = engine_id
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._prompt_logprobs: Any = None

    def keep_prompt(self, output: Any) -> None:
        """Ensures that every output has the prompt's log-probabilities, if one of them has.

        vLLM gives them once for each sample. For a slow reader it joins outputs, and can then lose those of a
        sample whose first output was joined. Its OpenAI layer needs them.
        """
        self._prompt_logprobs = output.prompt_logprobs or self._prompt_logprobs
        output.prompt_logprobs = self._prompt_logprobs


def _current_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


def raise_of_ended(output: Any) -> None:
    """Raises: ModelUnusable, TigerError if the engine ended a sample with an error."""
    for sample in output.outputs:
        if sample.finish_reason == "error":
            if sample.stop_reason == SENSELESS:
                raise ModelUnusable(UNUSABLE, "model")
            raise TigerError(INTERNAL_ERROR)


async def _last(outputs: AsyncGenerator[Any, None]) -> Any:
    """Returns the last output. Raises: TigerError if the engine ended the request without an output."""
    last = None
    async for output in outputs:
        last = output
    if last is None:
        raise TigerError(INTERNAL_ERROR)
    return last


def _num_prompt_tokens(prompt: Any) -> int:
    """Returns the number of tokens of a prompt. It is 0 for a text, which the engine tokenises."""
    return len(prompt.get("prompt_token_ids") or ()) if isinstance(prompt, Mapping) else 0

"""vLLM's engine as one request of one user sees it: admitted, in turn, and counted.

    async with  ->  Admission.admit (RateLimited)
    generate    ->  claim (RateLimited)  ->  turn  ->  AsyncLLM.generate  ->  outputs, counted
    the end     ->  what still runs is aborted, every ticket is released

vLLM's own OpenAI layer takes a TenantEngine for its engine client, and so does ModelServer. However the block
ends, nothing of the request is left: neither this nor vLLM's layer relies on a generator being closed.

What is guaranteed beside a greedy user, with the scheduling policy `priority` (lower is earlier):

- A request whose user has nothing in the engine goes there at once and finds a free place, because nobody
  else may take the last ones (model_server.admission). Only users with nothing running, or one prompt with
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
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from registry.errors import ModelUnusable, TigerError, Unavailable
from serve_app.model_server.admission import Admission, Ticket
from serve_app.model_server.running_count import RunningCount, UsageMeter

ABORT_TIMEOUT_S = 1.0
READING_INTERVAL_S = 0.05
STOPPED = "the model has stopped and is being started again; try again later"
SENSELESS = "senseless"
"""The stop reason of a request that ended for its logits (vllm_patches.finite_numbers)."""
UNUSABLE = "the model cannot be used: its weights give no finite numbers"


class TenantEngine:
    """For one HTTP request of one user, with `num_prompts` prompts and `num_samples` of each.

    `model_id` is what its usage is counted under. `num_copies`: each sample comes out, and is counted, so
    often. Everything but `generate` is the engine's own.

    Raises, on entering: RateLimited, Unavailable. On leaving, an error of an engine that died: Unavailable.
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
        """What ended a generation: vLLM's layer makes something of its own of it once a stream has begun."""
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
        """End what still runs, and give all tickets back."""
        left = [run for run in self._runs if not run.ticket.is_released]
        for ticket in self._tickets:
            ticket.release()
        if left:
            await self._end(left)

    def claim(self, num_tokens: int) -> None:
        """So many tokens for each sample of the first prompt, which `generate` claims by itself, but later.

        Raises: RateLimited.
        """
        self._tickets[0].claim(self.num_samples * num_tokens)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_engine":  # a copy that is not initialised yet
            raise AttributeError(name)
        return getattr(self._engine, name)

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]:
        """The engine's outputs for the next prompt.

        Raises: RateLimited, at once; Unavailable, ModelUnusable, TigerError while the outputs are read.
        """
        ticket = self._next_ticket(sampling_params.n)
        num_prompt_tokens = _num_prompt_tokens(prompt)
        ticket.claim(
            ticket.num_samples * (num_prompt_tokens + self._max_tokens(sampling_params, num_prompt_tokens))
        )
        ticket.num_prompt_tokens = num_prompt_tokens
        more["priority"] = self._admission.num_generations(self._user) - 1
        # Ids come from clients; an abort by id must not end the request of another one.
        run = Run(ticket, f"{request_id}-{secrets.token_hex(8)}")
        run.outputs = self._outputs(run, prompt, sampling_params, more)
        self._runs.append(run)
        return run.outputs

    def _next_ticket(self, num_samples: int) -> Ticket:
        """One of those admitted at first; vLLM's layer may still ask for more than the request said."""
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
                        run.ticket.prompt_is_read()
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
        """Of the likeliest answer there may be several choices, all the same."""
        if self._num_copies > 1:
            (sample,) = output.outputs
            output.outputs = [replace(sample, index=index) for index in range(self._num_copies)]
        return output

    async def _end(self, runs: "list[Run]") -> None:
        """Stop what the engine still has of them, and wait until that is counted, if not for long."""
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
        """The one output. If nobody waits for it any more, vLLM is asked what it has generated so far."""
        final = asyncio.ensure_future(_last(outputs))
        try:
            while self._reads_prompt(run.engine_id) and not final.done():
                await asyncio.wait([final], timeout=READING_INTERVAL_S)
            run.ticket.prompt_is_read()
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

    def _reads_prompt(self, engine_id: str) -> bool:
        """Whether the engine has not begun to answer; before it knows of a request, that is so too."""
        known = self._engine.output_processor
        states = [known.request_states.get(each) for each in known.external_req_ids.get(engine_id, ())]
        return all(state.is_prefilling for state in states if state is not None)


class Run:
    """One call of `generate`. Its reader is the task that asked for an output last."""

    outputs: AsyncGenerator[Any, None]
    reader: "asyncio.Task[Any]"

    def __init__(self, ticket: Ticket, engine_id: str) -> None:
        self.ticket = ticket
        self.engine_id = engine_id
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._prompt_logprobs: Any = None

    def keep_prompt(self, output: Any) -> None:
        """See that every output has the prompt's log-probabilities, if any has.

        vLLM tells them once for each sample, and not those of a sample whose first output it joins with a
        later one of another, as it does for a slow reader; its OpenAI layer then looks in vain for them.
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
            raise TigerError("internal error")


async def _last(outputs: AsyncGenerator[Any, None]) -> Any:
    return [output async for output in outputs][-1]


def _num_prompt_tokens(prompt: Any) -> int:
    """0 where the engine is to tokenise: its outputs say how many there were."""
    return len(prompt.get("prompt_token_ids") or ()) if isinstance(prompt, Mapping) else 0

"""`POST /v1/generate_response`: talk to a model."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter

from registry.errors import ContextLengthExceeded, ModelUnusable, RateLimited, TokenBudgetExceeded
from serve_app.api.answer_examples import GENERATED, GENERATED_LINES
from serve_app.api.answer_size import check_generation
from serve_app.api.backends import WITHIN_BUDGET, Backends, BackendsDependency, PresumedUserDependency
from serve_app.api.bodies import BoundedRoute
from serve_app.api.cold_start import starting_lines
from serve_app.api.openapi import BODY, MODEL, errors, streamed, success
from serve_app.api.streams import MEDIA_TYPE, cancelled_at_end, stream_ndjson
from serve_app.catalog.references import Resolved
from serve_app.model_server.calls import Generation, GenerationCall
from serve_app.wire.generate import (
    AssistantMessage,
    Generated,
    GeneratedResponse,
    GenerateResponse,
    GenerationUsage,
)
from serve_app.wire.lengths import check_characters

router = APIRouter(prefix="/v1", tags=["generate"], route_class=BoundedRoute)

RESPONSES = success(GENERATED, "all samples; with `stream`, the text while it is generated")
RESPONSES[200]["content"] |= streamed(
    MEDIA_TYPE, GENERATED_LINES, "chunks: `info`, `delta`..., then `stop` or `error`"
)
RESPONSES |= errors(*BODY, *MODEL, ContextLengthExceeded, ModelUnusable, TokenBudgetExceeded, RateLimited)


@router.post(
    "/generate_response", response_model=Generated, responses=RESPONSES, dependencies=[WITHIN_BUDGET]
)
async def generate_response(
    request: GenerateResponse, user: PresumedUserDependency, backends: BackendsDependency
) -> Any:
    """Answer a conversation. With `stream`, the answer is NDJSON chunks: `info`, `delta`..., `stop`."""
    resolved = await backends.resolve(user, request.model)
    check_generation(request, resolved.base, backends.settings.limits)
    context = resolved.base.max_context_tokens
    check_characters(sum(len(message.content) for message in request.messages), context, "messages")
    call = build_call(request, resolved, user)
    if request.stream and backends.is_asleep(resolved):
        return await stream_ndjson(_lines_after_start(backends, resolved, call))
    server = await backends.server(resolved)
    if request.stream:
        return await stream_ndjson(cancelled_at_end(server.generate_stream(call)))
    return _answer(call, await server.generate(call))


async def _lines_after_start(
    backends: Backends, resolved: Resolved, call: GenerationCall
) -> AsyncGenerator[str, None]:
    """Yields the lines of a stream whose base model has no replica yet, and `info` until it has one."""
    async with aclosing(starting_lines(resolved.base.name, backends.server(resolved))) as lines:
        async for line in lines:
            yield line
    server = await backends.server(resolved)
    async with aclosing(cancelled_at_end(server.generate_stream(call))) as lines:
        async for line in lines:
            yield line


def build_call(request: GenerateResponse, resolved: Resolved, user: str) -> GenerationCall:
    """Returns the call for a replica. Values that the request leaves out are the model's defaults."""
    defaults = resolved.private.defaults if resolved.private else resolved.base.defaults
    return GenerationCall(
        user=user,
        model=resolved.id,
        revision=resolved.revision,
        adapter_id=resolved.adapter_id,
        messages=tuple(message.record() for message in request.messages),
        n=request.n,
        temperature=defaults.temperature if request.temperature is None else request.temperature,
        top_p=defaults.top_p if request.top_p is None else request.top_p,
        max_tokens=request.max_tokens,
        stop=tuple(request.stop or ()),
        seed=request.seed,
    )


def _answer(call: GenerationCall, generation: Generation) -> Generated:
    responses = [
        GeneratedResponse(content=c.content, stop_reason=c.stop_reason, output_tokens=c.output_tokens)
        for c in generation.completions
    ]
    return Generated(
        id=call.id,
        model=call.model,
        revision=call.revision,
        message=AssistantMessage(content=responses[0].content),
        responses=responses,
        stop_reason=responses[0].stop_reason,
        usage=GenerationUsage(
            input_tokens=generation.input_tokens,
            output_tokens=generation.output_tokens,
            duration=round(generation.duration_s, 6),
        ),
    )

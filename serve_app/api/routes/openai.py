"""`/openai/v1`: the models, for clients of OpenAI's API. vLLM makes the answers of chat and completions."""

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response

from registry.errors import (
    ContextLengthExceeded,
    ModelInUse,
    ModelUnusable,
    RateLimited,
    TokenBudgetExceeded,
)
from registry.records import ModelRecord
from serve_app.api.answer_examples import (
    CHAT_COMPLETION,
    CHAT_EVENTS,
    COMPLETION,
    COMPLETION_EVENTS,
    DELETED_OPENAI_MODEL,
    OPENAI_MODEL,
)
from serve_app.api.answer_size import check_completion, largest_chat
from serve_app.api.backends import (
    WITHIN_BUDGET,
    AuditDependency,
    Backends,
    BackendsDependency,
    PresumedUserDependency,
    UserDependency,
)
from serve_app.api.bodies import BoundedRoute
from serve_app.api.model_listing import base_models
from serve_app.api.openapi import BODY, MODEL, PRIVATE_MODEL, Responses, errors, streamed, success
from serve_app.api.routes.models import Ref
from serve_app.api.streams import EVENTS_MEDIA_TYPE, stream_events
from serve_app.catalog.references import Resolved
from serve_app.model_server.calls import OpenAICall
from serve_app.settings import BaseModelSettings
from serve_app.wire.lengths import check_characters
from serve_app.wire.openai import ChatCompletionRequest, CompletionRequest, Sampling
from serve_app.wire.openai_answers import (
    ChatCompletion,
    Completion,
    DeletedOpenAIModel,
    OpenAIModel,
    OpenAIModels,
)

router = APIRouter(prefix="/openai/v1", tags=["openai"], route_class=BoundedRoute)

LISTING = success({"object": "list", "data": [OPENAI_MODEL]}, "the models")


def _completed(example: Any, events: str) -> Responses:
    responses = success(example, "all choices; with `stream`, their text while it is generated")
    responses[200]["content"] |= streamed(EVENTS_MEDIA_TYPE, events, "chunks, then `[DONE]`")
    refusals = (ContextLengthExceeded, ModelUnusable, TokenBudgetExceeded, RateLimited)
    return responses | errors(*BODY, *MODEL, *refusals, openai=True)


@router.get("/models", response_model=OpenAIModels, responses=LISTING)
async def list_models(user: PresumedUserDependency, backends: BackendsDependency) -> Any:
    """List all models that you may use, base models first."""
    base = [_of_base(model) for model in base_models(backends.settings)]
    return OpenAIModels(data=base + [_of_private(model) for model in await backends.private_models(user)])


@router.get(
    "/models/{ref}", response_model=OpenAIModel, responses=success(OPENAI_MODEL, "the model") | errors(*MODEL)
)
async def get_model(ref: Ref, user: PresumedUserDependency, backends: BackendsDependency) -> Any:
    """Get one model by its id or name."""
    resolved = await backends.resolve(user, ref)
    if resolved.private is None:
        return _of_base(resolved.base)
    model = _of_private(resolved.private)
    is_pinned = ref not in (resolved.id, resolved.name)
    return model.model_copy(update={"id": f"{model.id}@{resolved.revision}"}) if is_pinned else model


@router.delete(
    "/models/{ref}",
    response_model=DeletedOpenAIModel,
    responses=success(DELETED_OPENAI_MODEL, "the model is deleted")
    | errors(*PRIVATE_MODEL, ModelInUse, openai=True),
)
async def delete_model(
    ref: Ref, user: UserDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Delete one of your models with all its revisions."""
    return DeletedOpenAIModel(id=await backends.delete_model(user, ref, audit))


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses=_completed(CHAT_COMPLETION, CHAT_EVENTS),
    dependencies=[WITHIN_BUDGET],
)
async def chat_completions(
    request: ChatCompletionRequest, user: PresumedUserDependency, backends: BackendsDependency
) -> Any:
    """Answer a conversation. With `stream`, the answer is server-sent events like OpenAI's."""
    resolved = await backends.resolve(user, request.model)
    check_characters(request.num_characters(), resolved.base.max_context_tokens, "messages")
    largest = largest_chat(request, resolved.base, backends.settings.limits)
    more = {} if largest is None else {"max_completion_tokens": largest}
    return await _complete("chat", request, user, backends, resolved, more)


@router.post(
    "/completions",
    response_model=Completion,
    responses=_completed(COMPLETION, COMPLETION_EVENTS),
    dependencies=[WITHIN_BUDGET],
)
async def completions(
    request: CompletionRequest, user: PresumedUserDependency, backends: BackendsDependency
) -> Any:
    """Continue a text. With `stream`, the answer is server-sent events like OpenAI's.

    No chat template is used: the prompt is the model's exact input, and the spelling of a control token in it
    is that token. In all other routes such a spelling is ordinary text.
    """
    resolved = await backends.resolve(user, request.model)
    check_characters(request.num_characters(), resolved.base.max_context_tokens, "prompt")
    check_completion(request, resolved.base, backends.settings.limits)
    return await _complete("text", request, user, backends, resolved, {})


async def _complete(
    kind: Literal["chat", "text"],
    request: Sampling,
    user: str,
    backends: Backends,
    resolved: Resolved,
    more: dict[str, Any],
) -> Response:
    call = call_of(kind, request, user, resolved, more)
    server = await backends.server(resolved)
    if request.stream:
        return await stream_events(server.openai_events(call))
    return Response(await server.openai_answer(call), media_type="application/json")


def call_of(
    kind: Literal["chat", "text"], request: Sampling, user: str, resolved: Resolved, more: dict[str, Any]
) -> OpenAICall:
    """Returns the call for a replica. The fields in `more` replace those of the request."""
    return OpenAICall(
        kind=kind,
        user=user,
        model=resolved.id,
        revision=resolved.revision if resolved.private else None,
        adapter_id=resolved.adapter_id,
        body=_body(request, resolved) | more,
    )


def _body(request: Sampling, resolved: Resolved) -> dict[str, Any]:
    defaults = resolved.private.defaults if resolved.private else resolved.base.defaults
    return {"temperature": defaults.temperature, "top_p": defaults.top_p, **request.body()}


def _of_base(model: BaseModelSettings) -> OpenAIModel:
    return OpenAIModel(id=model.id, created=int(model.last_modified.timestamp()), owned_by="tiger")


def _of_private(model: ModelRecord) -> OpenAIModel:
    return OpenAIModel(id=model.id, created=int(model.created.timestamp()), owned_by="you")

"""`/openai/v1/responses`: OpenAI's Responses API. Responses are not stored.

    request  ->  chat request  ->  ModelServer, as for chat  ->  response, or its events

This route translates to and from our own chat route. vLLM's layer for responses is not used: it keeps
responses in memory for any client, and our checks, limits and structured outputs would each need a patch.
"""

import json
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from registry.errors import (
    ContextLengthExceeded,
    ModelUnusable,
    RateLimited,
    TigerError,
    TokenBudgetExceeded,
)
from serve_app.api.answer_examples import RESPONSE, RESPONSE_EVENTS
from serve_app.api.answer_size import largest_chat
from serve_app.api.backends import WITHIN_BUDGET, Backends, BackendsDependency, PresumedUserDependency
from serve_app.api.bodies import BoundedRoute
from serve_app.api.openapi import BODY, MODEL, errors, streamed, success
from serve_app.api.responses.input import ChatForm, chat_form
from serve_app.api.responses.output import Answering, whole_response
from serve_app.api.responses.stream import response_events
from serve_app.api.routes.openai import call_of
from serve_app.api.streams import EVENTS_MEDIA_TYPE, cancelled_at_end, stream_made_events
from serve_app.catalog.references import Resolved
from serve_app.model_server.calls import OpenAICall
from serve_app.remote_errors import as_tiger_error
from serve_app.wire.lengths import check_characters
from serve_app.wire.responses import Response, ResponsesRequest

router = APIRouter(prefix="/openai/v1", tags=["openai"], route_class=BoundedRoute)

REFUSALS = (ContextLengthExceeded, ModelUnusable, TokenBudgetExceeded, RateLimited)
ANSWERS = success(RESPONSE, "the response; with `stream`, its events while it is generated")
ANSWERS[200]["content"] |= streamed(EVENTS_MEDIA_TYPE, RESPONSE_EVENTS, "events; the last has the response")


@router.post(
    "/responses",
    response_model=Response,
    responses=ANSWERS | errors(*BODY, *MODEL, *REFUSALS, openai=True),
    dependencies=[WITHIN_BUDGET],
)
async def create_response(
    request: ResponsesRequest, user: PresumedUserDependency, backends: BackendsDependency
) -> Any:
    """Answer a text or a conversation. With `stream`, the answer is server-sent events like OpenAI's."""
    form = chat_form(request)
    resolved = await backends.resolve(user, request.model)
    call = _call(form, user, backends, resolved)
    answering = Answering(request, call.body["temperature"], call.body["top_p"])
    server = await backends.server(resolved)
    if request.stream:
        chat = cancelled_at_end(server.openai_events(call))
        return await stream_made_events(response_events(chat, answering, form))
    try:
        answer = await server.openai_answer(call)
    except Exception as error:
        raise form.in_words_of_the_client(as_tiger_error(error)) from None
    return JSONResponse(whole_response(answering, json.loads(answer)))


def _call(form: ChatForm, user: str, backends: Backends, resolved: Resolved) -> OpenAICall:
    """Returns the call for a replica. Raises: InvalidRequest, ContextLengthExceeded."""
    chat = form.request
    try:
        check_characters(chat.num_characters(), resolved.base.max_context_tokens, "messages")
        largest = largest_chat(chat, resolved.base, backends.settings.limits)
    except TigerError as error:
        raise form.in_words_of_the_client(error) from None
    more = {} if largest is None else {"max_completion_tokens": largest}
    return call_of("chat", chat, user, resolved, more)

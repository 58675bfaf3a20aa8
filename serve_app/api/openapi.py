"""Adds to /openapi.json what the types do not say: the errors of each route, streams, and examples.

errors(...)    ->  the error statuses of a route, with the codes that each can have
streamed(...)  ->  an answer in pieces, with an example of them
describe(api)  ->  the whole document; `api.request_examples` has the bodies of requests
"""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from registry.errors import (
    INTERNAL_ERROR,
    NO_SUCH_FILE,
    NO_SUCH_KEY,
    NO_SUCH_MODEL,
    NO_SUCH_ROUTE,
    UNREACHABLE,
    ContextLengthExceeded,
    FileNotFound,
    IdempotencyConflict,
    InvalidApiKey,
    InvalidRequest,
    JobNotFound,
    KeyNotFound,
    ModelInUse,
    ModelNotFound,
    ModelReadOnly,
    ModelUnusable,
    NameTaken,
    NoLearningSignal,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    RevisionNotFound,
    RouteNotFound,
    TigerError,
    TokenBudgetExceeded,
    TrainingCancelled,
    TrainingDiverged,
    TrainingFailed,
    Unavailable,
    UnsupportedEncoding,
)
from serve_app.api.errors import body_of, headers_of, status_of
from serve_app.api.request_examples import request_examples
from serve_app.settings import Settings
from serve_app.wire.base import ErrorAnswer

Responses = dict[int | str, dict[str, Any]]

DESCRIPTION = """Private language models: list, copy, teach with rewards, talk to them.

Every request except `/healthz`, `/readyz` and `/openai/health` carries an API key:
`Authorization: Bearer <key>`. A key belongs to one user, who sees the base models and their own private
models. A request for something of another user gets the same answer as a request for something that does not
exist. A model can be named by its `id` or by its `name`.
If the instance limits requests per minute, every answer to a valid key has the headers
`x-ratelimit-limit-requests`, `x-ratelimit-remaining-requests` and `x-ratelimit-reset-requests`. They show how
many requests the user may make in a minute, how many are left, and when the count is zero again.

Bodies are JSON, except those of files, and strict. A field that is not described here, a wrong type or a
value out of range is refused, and the answer names the field and the reason. A body with too many values or
levels is refused too. So is a request without `stream` whose answer could become too large for one piece.
Every error is `{"error": {"type", "code", "message", "param"}}`. Every answer has an `X-Request-Id`. It is
the one of the request, if that has at most 64 letters, digits, `.`, `_` and `-`; else it is a new one.

Messages, names, tools and responses are plain text. If they contain the spelling of a control token, it is
encoded as ordinary characters. The only exception is the raw prompt of `/openai/v1/completions`.

The key is checked before the body is read. The body must arrive within a minute. A stream ends with an error
within five seconds after its key was revoked or has expired. A training goes on.

A stream is `application/x-ndjson` with one JSON object per line. It ends with exactly one `stop` or `error`.
An error is `{"type": "error", "message", "error"}`. Below `/openai` a stream is `text/event-stream`. It ends
with `data: [DONE]`, or, at `/openai/v1/responses`, with its last event."""

TAGS = [
    {"name": "models", "description": "Base models, private models and their revisions."},
    {"name": "generate", "description": "Talk to a model."},
    {"name": "train", "description": "Teach a private model with rewards, examples or preferences."},
    {"name": "jobs", "description": "The state and the results of trainings."},
    {"name": "keys", "description": "Your own API keys."},
    {"name": "usage", "description": "Your usage of tokens and seconds."},
    {"name": "openai", "description": "The same models for clients of OpenAI's API."},
    {"name": "operator", "description": "The state of the service, for the users who operate it."},
    {"name": "operations", "description": "The health of the service. These routes need no key."},
]

EXAMPLES: tuple[TigerError, ...] = (
    InvalidApiKey("the API key is not valid"),
    ModelReadOnly("a base model cannot be changed, trained or deleted; make a copy first", "model"),
    ModelNotFound(NO_SUCH_MODEL, "model"),
    RevisionNotFound("the model has no such revision", "model"),
    RouteNotFound(NO_SUCH_ROUTE),
    JobNotFound("no such job"),
    KeyNotFound(NO_SUCH_KEY),
    FileNotFound(NO_SUCH_FILE),
    NameTaken("there is a model of that name already", "name"),
    ModelInUse("a training of this model has not ended; wait for it", "model"),
    IdempotencyConflict("this Idempotency-Key was used with another body"),
    TrainingCancelled("the training was cancelled"),
    RequestTimeout("the body did not arrive within 60 s"),
    RequestTooLarge("the body is over 8388608 bytes"),
    UnsupportedEncoding("a compressed body is not read: send it without Content-Encoding"),
    InvalidRequest("temperature: Input should be less than or equal to 2", "temperature"),
    ContextLengthExceeded("the messages have 9000 tokens; the model takes 8192 in all", "messages"),
    NoLearningSignal("in every group all rewards are equal, so there is nothing to learn", "responses"),
    ModelUnusable("the model cannot be used: its weights give no finite numbers", "model"),
    TrainingDiverged("the training diverged at step 3: the loss is not finite; lower learning_rate"),
    QuotaExceeded("you have as many models as you may have; delete one first"),
    TokenBudgetExceeded(
        "you have used 1000123 of the 1000000 tokens of this day; the next day begins at 2025-02-03T00:00Z",
        retry_after_s=3600,
    ),
    RateLimited("your generations in progress would be more than 512"),
    TrainingFailed("the training ended without a revision"),
    TigerError(INTERNAL_ERROR),
    Unavailable(UNREACHABLE),
)  # fmt: skip
EXAMPLE_OF = {type(example): example for example in EXAMPLES}

ALWAYS = (InvalidApiKey, RateLimited, TigerError, Unavailable)
"""The errors that every route with a key can answer."""
BODY = (RequestTimeout, RequestTooLarge, UnsupportedEncoding, InvalidRequest)
"""The errors that every route with a body can answer."""
MODEL = (ModelNotFound, RevisionNotFound)
"""The errors that every route with a reference to a model can answer."""
PRIVATE_MODEL = (*MODEL, ModelReadOnly, InvalidRequest)
"""The errors that every route with a reference to a private model, without `@N`, can answer."""

HEADERS = {
    "WWW-Authenticate": {"required": True, "schema": {"type": "string"}, "description": "`Bearer`"},
    "Retry-After": {
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "description": "number of seconds to wait before the same request is sent again",
    },
}


def errors(*kinds: type[TigerError], openai: bool = False) -> Responses:
    """Returns the error statuses of a route that raises `kinds`, with an example of each code."""
    by_status: dict[int, list[TigerError]] = {}
    for example in (EXAMPLE_OF[kind] for kind in dict.fromkeys(kinds)):
        status = status_of(example)
        by_status.setdefault(400 if openai and status == 422 else status, []).append(example)
    return {status: _error(by_status[status], openai) for status in sorted(by_status)}


def _error(examples: list[TigerError], openai: bool) -> dict[str, Any]:
    bodies = [body_of(example, for_openai=openai) for example in examples]
    shown = {body["error"]["code"]: {"value": body} for body in bodies}
    response: dict[str, Any] = {
        "model": ErrorAnswer,
        "description": ", ".join(f"`{code}`" for code in shown),
        "content": {"application/json": {"examples": shown}},
    }
    if headers := headers_of(examples[0]):
        response["headers"] = {name: HEADERS[name] for name in headers}
    return response


def success(example: Any, description: str, status: int = 200) -> Responses:
    """Returns the description of a successful answer in JSON."""
    return {status: {"description": description, "content": {"application/json": {"example": example}}}}


def one(content: dict[str, Any], description: str) -> Responses:
    """Returns the description of a successful answer that is not JSON."""
    return {200: {"description": description, "content": content}}


def streamed(media_type: str, example: str, description: str) -> dict[str, Any]:
    """Returns the description of an answer in pieces."""
    schema = {"description": description}
    if media_type != "text/event-stream":  # for event streams a schema describes one event
        schema["type"] = "string"
    return {media_type: {"schema": schema, "example": example}}


def describe(api: FastAPI, settings: Callable[[], Settings]) -> Callable[[], dict[str, Any]]:
    """Returns a function that makes FastAPI's document of `api`, completed and corrected.

    `settings` returns the settings that hold now.
    """

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            document = FastAPI.openapi(api)
            _remove_fastapis_errors(document)
            _restore_examples(document, api)
        assert api.openapi_schema is not None
        _add_request_examples(api.openapi_schema, request_examples(settings()))
        return api.openapi_schema

    return openapi


def _operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def _remove_fastapis_errors(document: dict[str, Any]) -> None:
    """Removes the 422 that FastAPI adds to each route that has parameters and documents no 422."""
    for operation in _operations(document).values():
        if "HTTPValidationError" in str(operation["responses"].get("422")):
            del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _restore_examples(document: dict[str, Any], api: FastAPI) -> None:
    """Puts the examples back as they were, because FastAPI removes the fields that are null."""
    for route in (route for route in api.routes if isinstance(route, APIRoute)):
        for method in route.methods:
            shown = document["paths"][route.path_format][method.lower()]["responses"]
            for status, response in route.responses.items():
                for media_type, content in response.get("content", {}).items():
                    examples = {name: content[name] for name in ("example", "examples") if name in content}
                    shown[str(status)]["content"][media_type].update(examples)


def _add_request_examples(document: dict[str, Any], examples: dict[str, dict[str, Any]]) -> None:
    operations = _operations(document)
    for route, bodies in examples.items():
        content = operations[route]["requestBody"]["content"]["application/json"]
        content["examples"] = {summary: {"value": body} for summary, body in bodies.items()}

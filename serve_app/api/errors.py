"""Turns all errors into HTTP answers. No other module does that.

TigerError, or a Ray error that carries one  ->  status, code, message, param
FastAPI's validation and routing errors      ->  422 invalid_request, 404, 405
a replica that cannot be reached             ->  503 unavailable
a call that was cancelled from elsewhere     ->  503 unavailable
anything else                                ->  500 internal_error, details in the log only
"""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import RayServeException
from starlette.exceptions import HTTPException

from registry import errors
from serve_app.remote_errors import as_tiger_error

logger = logging.getLogger("ray.serve")

STATUS: dict[type[errors.TigerError], int] = {
    errors.InvalidApiKey: 401,
    errors.ModelReadOnly: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.RequestTimeout: 408,
    errors.RequestTooLarge: 413,
    errors.UnsupportedEncoding: 415,
    errors.InvalidRequest: 422,
    errors.QuotaExceeded: 429,
    errors.RateLimited: 429,
    errors.Unavailable: 503,
    errors.Superseded: 503,
}
PLAIN: dict[int, errors.TigerError] = {
    400: errors.InvalidRequest("the request cannot be answered"),
    408: errors.RequestTimeout("the request took too long"),
    500: errors.TigerError(errors.INTERNAL_ERROR),
    503: errors.Unavailable(errors.UNREACHABLE),
}
RETRY_AFTER_S = 2
MAX_MESSAGE_CHARACTERS = 1000
MAX_PARAM_CHARACTERS = 200
OPENAI_PREFIX = "/openai/"
INSUFFICIENT_QUOTA = "insufficient_quota"
ANSWER_HEADERS = "tiger.answer_headers"  # in the scope of a request: headers that its answer always has
ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}


def status_of(error: errors.TigerError) -> int:
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def error_body(status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
    kind = ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"type": kind, "code": code, "message": message, "param": param}}


def body_of(error: errors.TigerError, for_openai: bool = False) -> dict[str, Any]:
    """Returns the body of the answer to `error`. OpenAI's clients know a used-up budget by code and type."""
    if for_openai and isinstance(error, errors.TokenBudgetExceeded):
        detail = {"type": INSUFFICIENT_QUOTA, "code": INSUFFICIENT_QUOTA}
        return {"error": {**detail, "message": error.message, "param": error.param}}
    return error_body(status_of(error), error.code, error.message, error.param)


def headers_of(error: errors.TigerError) -> dict[str, str]:
    """Returns the headers of the answer to `error`."""
    status = status_of(error)
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if status in (429, 503):
        seconds = error.retry_after_s if isinstance(error, errors.PassingLimit) else RETRY_AFTER_S
        return {"Retry-After": str(seconds)}
    return {}


def error_response(error: errors.TigerError, is_last: bool = False) -> JSONResponse:
    """Returns the answer to an error.

    `is_last` closes the connection, because the rest of a body may still arrive on it.
    """
    headers = headers_of(error) | ({"Connection": "close"} if is_last else {})
    return JSONResponse(body_of(error), status_of(error), headers)


def plain_error(status: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns body and headers of an error of which only the status is known. Serve makes such errors."""
    error = PLAIN.get(status) or (PLAIN[500] if status >= 500 else PLAIN[400])
    return error_body(status, error.code, error.message, None), headers_of(error)


def _response(request: Request, error: errors.TigerError) -> JSONResponse:
    body = body_of(error, for_openai=_is_for_openai(request))
    return JSONResponse(body, _status_for(request, status_of(error)), headers_of(error))


def _status_for(request: Request, status: int) -> int:
    """Returns 400 in place of 422 below /openai/, because OpenAI's clients expect it."""
    return 400 if status == 422 and _is_for_openai(request) else status


def _is_for_openai(request: Request) -> bool:
    return request.url.path.startswith(OPENAI_PREFIX)


def _deepest(error: RequestValidationError) -> tuple[dict[str, Any], str | None]:
    """Returns the error that is deepest inside the body, and its place, such as `groups.0.responses`.

    If a value may have one of several types, each type that does not fit has an error with the type's name in
    its location. Such names are not in the body and are left out.
    """
    found = [(details, _path(details, error.body)) for details in error.errors()]
    details, path = max(found, key=lambda pair: len(pair[1]))
    return details, ".".join(map(str, path)) or None


def _path(details: dict[str, Any], body: Any) -> list[str | int]:
    source, *location = details["loc"]
    if source != "body" or details["type"] == "json_invalid":
        return location
    path: list[str | int] = []
    for part in location:
        is_index = isinstance(body, list) and isinstance(part, int) and part < len(body)
        if is_index or (isinstance(body, dict) and part in body):
            path.append(part)
            body = body[part]
    if details["type"] == "missing" and location:  # without a location, the body itself is missing
        path.append(location[-1])
    return path


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    response = _response(request, as_tiger_error(error))
    # The handler for all other exceptions runs outside of all middleware, so the headers are added here.
    response.headers.update(request.scope.get(ANSWER_HEADERS, {}))
    return response


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first, param = _deepest(error)
    if first["type"] == "json_invalid":
        param = None
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        message = "the body is not valid JSON"
    elif first["type"] in ("model_attributes_type", "dict_type", "model_type") and not param:
        message = "the body must be a JSON object, sent with Content-Type: application/json"
    elif param:
        message = f"{param}: {message}"
    # Both may repeat parts of the request, which may be long and may not be valid Unicode.
    message, param = _shown(message, MAX_MESSAGE_CHARACTERS), param and _shown(param, MAX_PARAM_CHARACTERS)
    return JSONResponse(error_body(422, "invalid_request", message, param), _status_for(request, 422))


def _shown(text: str, max_characters: int) -> str:
    return text[:max_characters].encode(errors="replace").decode()


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, errors.TigerError):  # raised while the body was read
        return _response(request, error.__cause__)
    if error.status_code == 400:  # FastAPI could not parse the body at all
        message = "the body cannot be read as JSON"
        return JSONResponse(error_body(422, "invalid_request", message, None), _status_for(request, 422))
    code = {404: "route_not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    messages = {404: errors.NO_SUCH_ROUTE, 405: "this route does not take that method"}
    return JSONResponse(
        error_body(error.status_code, code, messages.get(error.status_code, str(error.detail)), None),
        error.status_code,
        error.headers,
    )


def install_error_handlers(api: FastAPI) -> None:
    api.add_exception_handler(RequestValidationError, _on_validation_error)
    api.add_exception_handler(HTTPException, _on_http_exception)
    api.add_exception_handler(errors.TigerError, _on_error)
    api.add_exception_handler(RayTaskError, _on_error)
    api.add_exception_handler(RayActorError, _on_error)
    api.add_exception_handler(RayServeException, _on_error)
    api.add_exception_handler(Exception, _on_error)

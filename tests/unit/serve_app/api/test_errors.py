import asyncio
import logging
import pickle

import grpc
import httpx
import pytest
import ray.exceptions
from fastapi import FastAPI
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

from registry import errors
from serve_app.api.errors import body_of, headers_of, install_error_handlers, status_of
from serve_app.remote_errors import as_tiger_error
from tests.support.ray_private import DeploymentID

TABLE = [
    (errors.InvalidApiKey, 401, "authentication_error", "invalid_api_key"),
    (errors.ModelReadOnly, 403, "permission_error", "model_read_only"),
    (errors.ModelNotFound, 404, "not_found_error", "model_not_found"),
    (errors.RevisionNotFound, 404, "not_found_error", "revision_not_found"),
    (errors.JobNotFound, 404, "not_found_error", "job_not_found"),
    (errors.KeyNotFound, 404, "not_found_error", "key_not_found"),
    (errors.FileNotFound, 404, "not_found_error", "file_not_found"),
    (errors.RouteNotFound, 404, "not_found_error", "route_not_found"),
    (errors.NameTaken, 409, "conflict_error", "name_taken"),
    (errors.ModelInUse, 409, "conflict_error", "model_in_use"),
    (errors.IdempotencyConflict, 409, "conflict_error", "idempotency_conflict"),
    (errors.TrainingCancelled, 409, "conflict_error", "training_cancelled"),
    (errors.RequestTimeout, 408, "invalid_request_error", "request_timeout"),
    (errors.RequestTooLarge, 413, "invalid_request_error", "request_too_large"),
    (errors.UnsupportedEncoding, 415, "invalid_request_error", "unsupported_encoding"),
    (errors.InvalidRequest, 422, "invalid_request_error", "invalid_request"),
    (errors.ContextLengthExceeded, 422, "invalid_request_error", "context_length_exceeded"),
    (errors.NoLearningSignal, 422, "invalid_request_error", "no_learning_signal"),
    (errors.ModelUnusable, 422, "invalid_request_error", "model_unusable"),
    (errors.TrainingDiverged, 422, "invalid_request_error", "training_diverged"),
    (errors.QuotaExceeded, 429, "rate_limit_error", "quota_exceeded"),
    (errors.TokenBudgetExceeded, 429, "rate_limit_error", "quota_exceeded"),
    (errors.RateLimited, 429, "rate_limit_error", "rate_limited"),
    (errors.Unavailable, 503, "unavailable_error", "unavailable"),
    (errors.Superseded, 503, "unavailable_error", "unavailable"),
    (errors.TigerError, 500, "server_error", "internal_error"),
    (errors.TrainingFailed, 500, "server_error", "training_failed"),
]


def leaves(kind: type[errors.TigerError]) -> set[type[errors.TigerError]]:
    below = [leaf for child in kind.__subclasses__() for leaf in leaves(child)]
    return {kind, *below} if "code" in vars(kind) else set(below)


@pytest.mark.parametrize(("kind", "status", "type_", "code"), TABLE)
def test_error_has_its_status_and_body(
    kind: type[errors.TigerError], status: int, type_: str, code: str
) -> None:
    error = kind("what happened", "a.0.b")
    assert status_of(error) == status
    assert body_of(error) == {
        "error": {"type": type_, "code": code, "message": "what happened", "param": "a.0.b"}
    }


def test_table_is_complete() -> None:
    assert {row[0] for row in TABLE} >= leaves(errors.TigerError)


@pytest.mark.parametrize("kind", [row[0] for row in TABLE])
def test_error_of_a_replica_maps_like_its_cause(kind: type[errors.TigerError]) -> None:
    cause = kind("what happened", "model")
    raised = ray.exceptions.RayTaskError("method", "Traceback: /secret/path", cause).as_instanceof_cause()
    assert isinstance(raised, ray.exceptions.RayTaskError)
    assert as_tiger_error(raised) is cause


@pytest.mark.parametrize("kind", [row[0] for row in TABLE])
def test_error_survives_pickling(kind: type[errors.TigerError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("what happened", "model")))
    assert (type(copy), copy.message, copy.param) == (kind, "what happened", "model")


@pytest.mark.parametrize(
    "error",
    [
        ray.exceptions.RayActorError(),
        ray.exceptions.ActorDiedError(),
        BackPressureError(num_queued_requests=1, max_queued_requests=1),
        DeploymentUnavailableError(DeploymentID(name="x")),
        RayServeException("gone"),
        asyncio.CancelledError(),
        *(
            grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())
            for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        ),
    ],
)
def test_replica_that_cannot_be_reached_is_unavailable(error: BaseException) -> None:
    assert isinstance(as_tiger_error(error), errors.Unavailable)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        ray.exceptions.RayTaskError("method", "secret", KeyError("secret")).as_instanceof_cause(),
    ],
)
def test_unknown_error_is_logged_and_shows_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ray.serve").propagate = True
    with caplog.at_level(logging.ERROR, logger="ray.serve"):
        shown = as_tiger_error(error)
    assert status_of(shown) == 500
    assert "secret" not in str(body_of(shown))
    assert any(record.exc_info for record in caplog.records)


def test_refusal_says_when_to_come_back() -> None:
    for kind in (errors.RateLimited, errors.TokenBudgetExceeded):
        assert headers_of(kind("too much", retry_after_s=7)) == {"Retry-After": "7"}
    assert int(headers_of(errors.Unavailable("away"))["Retry-After"]) > 0
    assert headers_of(errors.ModelNotFound("no")) == {}


async def test_used_up_budget_has_the_code_that_clients_of_openai_know() -> None:
    api = FastAPI()
    install_error_handlers(api)

    @api.get("/openai/v1/models")
    @api.get("/v1/models")
    async def refuse() -> None:
        raise errors.TokenBudgetExceeded("you have used all tokens of this day", retry_after_s=60)

    client = httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://tiger")
    ours, theirs = await client.get("/v1/models"), await client.get("/openai/v1/models")
    assert {answer.status_code for answer in (ours, theirs)} == {429}
    assert {answer.headers["retry-after"] for answer in (ours, theirs)} == {"60"}
    assert ours.json()["error"] | {"type": "", "code": ""} == theirs.json()["error"] | {
        "type": "",
        "code": "",
    }
    kinds = [(a.json()["error"]["type"], a.json()["error"]["code"]) for a in (ours, theirs)]
    assert kinds == [("rate_limit_error", "quota_exceeded"), ("insufficient_quota", "insufficient_quota")]

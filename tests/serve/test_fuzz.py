"""Requests by Schemathesis to the running application: some that its OpenAPI document allows, and others."""

import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.pytest.lazy import get_all_tests
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve_app.wire.files import EXAMPLE_LINE
from tests.serve.conftest import WIDE_LIMITS
from tests.support.account import Account
from tests.support.service import Service

TIMEOUT_S = 30
SIZES = ("maxLength", "maxItems", "maxProperties")
MAX_SIZE = 64
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    response_schema_conformance,
    response_headers_conformance,
    content_type_conformance,
    negative_data_rejection,
]
LIMITS = WIDE_LIMITS
OF_OPERATORS = {"GET /v1/operator/base_models", "GET /v1/operator/users"}
"""The routes that do not exist for the user of these tests."""
FINE_TUNING = "/openai/v1/fine_tuning/jobs"


@pytest.fixture(scope="module")
def mallory(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A user with a model, and with workers for her trainings.

    A request that waits for a training gets its end.
    """
    account = service.user()
    with account.http, service.working(tmp_path_factory.mktemp("workers")):
        account.create("Mine")
        assert account.train("mine").status_code == 200
        yield account


@pytest.fixture(scope="module")
def session(mallory: Account) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {mallory.key}"
        yield session


@pytest.fixture(scope="module")
def schema(service: Service, mallory: Account) -> Any:
    document = without_large_bounds(mallory.http.get("/openapi.json").json())
    config = schemathesis.Config.from_dict(
        {
            "seed": 1,
            "base-url": service.url,
            "generation": {"max-examples": 12, "deterministic": True, "database": "none"},
            "phases": {"stateful": {"enabled": False}},
        }
    )
    return schemathesis.openapi.from_dict(document, config=config)


def without_large_bounds(document: Any) -> Any:
    """The document without large bounds.

    Schemathesis tries every bound, and texts of megabytes would take it hours.
    """
    if isinstance(document, list):
        return [without_large_bounds(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {
        name: without_large_bounds(value)
        for name, value in document.items()
        if not (name in SIZES and isinstance(value, int) and value > MAX_SIZE)
    }


def test_answers_are_those_of_the_document(schema: Any, mallory: Account, session: requests.Session) -> None:
    def ask(case: Any) -> None:
        name_something_real(case, mallory)
        answer = case.call_and_validate(session=session, checks=CHECKS, timeout=TIMEOUT_S)
        answers[case.operation.label][answer.status_code] += 1

    answers: defaultdict[str, Counter[int]] = defaultdict(Counter)
    failures = {}
    found: Any
    for found in get_all_tests(schema=schema, test_func=ask, settings=None, given_kwargs=None):
        operation, fuzz = found.ok()
        try:
            fuzz()
        except (BaseExceptionGroup, AssertionError, requests.RequestException) as error:
            failures[operation.label] = "".join(traceback.format_exception_only(error))
    assert failures == {}, "\n".join(failures.values())
    never_well = {label for label, found in answers.items() if min(found) >= 300}
    assert never_well == OF_OPERATORS, "never answered well"


def name_something_real(case: Any, account: Account) -> None:
    """Make every other reference name something that exists, so that more than the 404 is tested."""
    parameters = case.path_parameters or {}
    if is_chosen(parameters.get("ref")):
        parameters["ref"] = victim(account) if case.method == "DELETE" else "mine"
    if is_chosen(parameters.get("job_id")):
        jobs = account.http.get("/v1/jobs?limit=1").json()
        parameters["job_id"] = fine_tuned(account) if FINE_TUNING in case.path else jobs[0]["id"]
    if is_chosen(parameters.get("key_id")):
        parameters["key_id"] = account.http.post("/v1/keys", json={"name": "victim"}).json()["id"]
    if is_chosen(parameters.get("file_id")):
        parameters["file_id"] = uploaded(account)
    if isinstance(case.body, dict):
        for field in ("model", "parent_model"):
            if is_chosen(case.body.get(field)):
                case.body[field] = "mine"
        for field in ("training_file", "validation_file"):
            if is_chosen(case.body.get(field)):
                case.body[field] = uploaded(account, EXAMPLE_LINE.encode())


def is_chosen(value: Any) -> bool:
    return isinstance(value, str) and len(value) % 2 == 1


def uploaded(account: Account, content: bytes = b"{}") -> str:
    """A file of the user."""
    form: dict[str, Any] = {"data": {"purpose": "fine-tune"}, "files": {"file": ("f.jsonl", content)}}
    file_id: str = account.http.post("/openai/v1/files", **form).json()["id"]
    return file_id


def fine_tuned(account: Account) -> str:
    """A fine-tuning job of the user."""
    body = {"model": "mine", "training_file": uploaded(account, EXAMPLE_LINE.encode())}
    job_id: str = account.http.post(FINE_TUNING, json=body).raise_for_status().json()["id"]
    return job_id


def victim(account: Account) -> str:
    """A model that may be deleted."""
    body = {"name": "Victim", "description": "", "parent_model": "one"}
    assert account.http.post("/v1/models", json=body).status_code in (201, 409)
    return "victim"

"""The document /openapi.json is valid and complete, and its examples work."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from serve_app.api.answer_examples import FILE_OBJECT
from serve_app.api.errors import ERROR_TYPES, INSUFFICIENT_QUOTA
from tests.support.account import Account
from tests.support.service import Service

WITHOUT_KEY = {"GET /healthz", "GET /readyz", "GET /openai/health"}
OBVIOUS = {
    "id", "name", "description", "type", "object", "role", "content", "text", "message", "messages", "code",
    "status", "error", "usage", "data", "index", "choices", "function", "json_schema", "revision", "created",
    "started", "finished", "last_modified", "prompt_tokens", "completion_tokens", "total_tokens",
}  # fmt: skip
WITHOUT_RANGE = {"reward"}


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def fields_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of an object, each with its schema."""
    yield from schema.get("properties", {}).items()


def forms_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and, if it allows several forms, each of them."""
    yield schema
    for form in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from forms_of(form)
    if "items" in schema:
        yield from forms_of(schema["items"])


def is_ranged(schema: dict[str, Any]) -> bool:
    return bool(schema.keys() & {"minimum", "exclusiveMinimum"})


def examples_of(content: dict[str, Any]) -> list[Any]:
    single = [content["example"]] if "example" in content else []
    return single + [example["value"] for example in content.get("examples", {}).values()]


def body_of(media_type: str, example: dict[str, Any]) -> dict[str, Any]:
    """The arguments with which httpx sends an example."""
    if media_type == "application/json":
        return {"json": example}
    assert media_type == "multipart/form-data"
    return {"data": {"purpose": example["purpose"]}, "files": {"file": ("file", example["file"])}}


def test_document_is_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OPENAPI_31_VALIDATOR.validate(document)


def test_every_operation_says_what_it_is(operations: dict[str, dict[str, Any]]) -> None:
    for route, operation in operations.items():
        assert operation["summary"] and operation["description"] and operation["tags"], route
        assert bool(operation.get("security")) == (route not in WITHOUT_KEY), route
        assert all(parameter.get("description") for parameter in operation.get("parameters", ())), route
        assert any(status.startswith("2") for status in operation["responses"]), route


def test_every_error_is_in_the_shape_of_the_service(operations: dict[str, dict[str, Any]]) -> None:
    shape = {"$ref": "#/components/schemas/ErrorAnswer"}
    for route, operation in operations.items():
        errors = {status: r for status, r in operation["responses"].items() if status >= "4"}
        assert route in ("GET /healthz", "GET /openai/health") or "503" in errors, route
        assert route in WITHOUT_KEY or {"401", "500"} <= errors.keys(), route
        assert ("422" not in errors) or ("/openai/" not in route), route
        assert ("413" in errors) == ("requestBody" in operation), route
        for status, response in errors.items():
            assert response["content"].keys() == {"application/json"}, route
            assert response["content"]["application/json"]["schema"] == shape, (route, status)
            for example in examples_of(response["content"]["application/json"]):
                kinds = {ERROR_TYPES.get(int(status)), "invalid_request_error", "server_error"}
                kinds |= {INSUFFICIENT_QUOTA} if "/openai/" in route else set()
                assert example["error"]["type"] in kinds, (route, status)
                assert example["error"]["code"] in response["description"], (route, status)


def test_every_field_has_a_description_or_an_obvious_name(document: dict[str, Any]) -> None:
    nameless = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, value in fields_of(schema)
        if field not in OBVIOUS and not any(form.get("description") for form in forms_of(value))
    ]
    assert nameless == []


def test_every_number_of_a_request_has_a_range(document: dict[str, Any]) -> None:
    """The schemas of requests are those that forbid other fields."""
    boundless = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        if schema.get("additionalProperties") is False
        for field, value in fields_of(schema)
        for form in forms_of(value)
        if form.get("type") in ("number", "integer") and not is_ranged(form) and field not in WITHOUT_RANGE
    ]
    assert boundless == []


def test_every_example_of_an_answer_fits_its_schema(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    for route, operation in operations.items():
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                schema = {**content["schema"], "components": document["components"]}
                for example in examples_of(content):
                    found = [error.message for error in Draft202012Validator(schema).iter_errors(example)]
                    assert found == [], (route, status, media_type)


def test_every_good_answer_has_an_example(operations: dict[str, dict[str, Any]]) -> None:
    without = [
        f"{route} {media_type}"
        for route, operation in operations.items()
        for status, response in operation["responses"].items()
        if status.startswith("2")
        for media_type, content in response["content"].items()
        if route not in WITHOUT_KEY and media_type != "application/x-tar" and not examples_of(content)
    ]
    assert without == []


def test_examples_of_streams_end_as_streams_do(operations: dict[str, dict[str, Any]]) -> None:
    num_streams = 0
    for route, operation in operations.items():
        content = operation["responses"].get("200", {}).get("content", {})
        for example in examples_of(content.get("text/event-stream", {})):
            num_streams += 1
            last = "event: response.completed\n" if route.endswith("/responses") else "data: [DONE]"
            assert example.removesuffix("\n\n").split("\n\n")[-1].startswith(last), route
        for example in examples_of(content.get("application/x-ndjson", {})):
            num_streams += 1
            kinds = [json.loads(line).get("type") for line in example.splitlines()]
            assert route == "GET /v1/models" or kinds[-1] == "stop", route
    assert num_streams == 7


def test_every_example_of_a_request_is_answered(
    service: Service, alice: Account, operations: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """The examples run in the order of the document, because later examples use what earlier ones create.

    A file gets its id when it is uploaded. It takes the place of the file in the examples.
    """
    file_id = str(FILE_OBJECT["id"])
    with service.working(tmp_path):
        for route, operation in operations.items():
            if "requestBody" not in operation:
                continue
            method, path = route.split()
            ((media_type, content),) = operation["requestBody"]["content"].items()
            examples = content.get("examples", {})
            assert examples, f"{route} has no example in serve_app/api/request_examples.py"
            for name, example in examples.items():
                value = json.loads(json.dumps(example["value"]).replace(str(FILE_OBJECT["id"]), file_id))
                body = body_of(media_type, value)
                answer = alice.http.request(method, path.replace("{ref}", "model42"), **body)
                assert answer.status_code < 300, (route, name, answer.text)
                documented = operation["responses"][str(answer.status_code)]["content"]
                assert answer.headers["content-type"].partition(";")[0] in documented, (route, name)
                if path.endswith("/files"):
                    file_id = answer.json()["id"]

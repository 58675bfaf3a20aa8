"""The ingress over real HTTP: keys, routes, pages of other origins, operations."""

import re
from typing import Any

import httpx
import pytest

from registry.keys import ApiKeys, hash_key
from tests.support.account import HELLO, RESPONSES, Account, assert_error, assert_one_request_id
from tests.support.service import PAGE, Service
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "tiger_abc",
        "Basic YTpi",
        "Bearer tiger_unknown",
        "Bearer " + "k" * 5000,
    ],
)
def test_request_without_a_good_key_is_refused(service: Service, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/train"), ("GET", "/v1/jobs/x/events")):
        body: dict[str, Any] = (
            {"json": {"model": "mine", "messages": HELLO, "responses": RESPONSES}} if method == "POST" else {}
        )
        response = httpx.request(method, service.url + path, headers=headers, trust_env=False, **body)
        assert_error(response, 401, "invalid_api_key")
        assert response.headers["www-authenticate"] == "Bearer"


def test_revoked_key_is_refused_within_five_seconds(service: Service, alice: Account) -> None:
    assert alice.http.get("/v1/models").status_code == 200
    ApiKeys(service.store).revoke(hash_key(alice.key))
    wait_until(lambda: alice.http.get("/v1/models").status_code == 401, 5)
    assert_error(alice.http.get("/v1/models"), 401, "invalid_api_key")


def test_unknown_route_and_method_have_the_error_shape(alice: Account) -> None:
    assert_error(alice.http.get("/v1/nothing"), 404, "route_not_found")
    assert_error(alice.http.put("/v1/models"), 405, "method_not_allowed")


def test_request_id_of_the_client_is_kept(alice: Account) -> None:
    response = alice.http.get("/v1/models", headers={"X-Request-Id": "mine-1"})
    assert response.headers.get_list("x-request-id") == ["mine-1"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openai/health", "/openapi.json", "/docs"])
def test_operations_and_documents_need_no_key(service: Service, path: str) -> None:
    response = httpx.get(service.url + path, trust_env=False, timeout=30)
    assert response.status_code == 200, response.text
    assert_one_request_id(response)


def test_console_is_served_without_a_key(service: Service) -> None:
    with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as browser:
        led = browser.get("/")
        assert (led.status_code, led.headers["location"]) == (307, "/console/")
        index = browser.get("/console/")
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        (script,) = re.findall(r'type="module" src="([^"]+)"', index.text)
        got, asked = browser.get(f"/console/{script}"), browser.head(f"/console/{script}")
        assert (got.status_code, got.headers["content-encoding"]) == (200, "gzip")
        assert (asked.status_code, asked.headers["etag"]) == (200, got.headers["etag"])
        assert_error(browser.get("/console/none.js"), 404, "route_not_found")
        assert_error(browser.post("/console/", content=b"x"), 405, "method_not_allowed")


@pytest.mark.parametrize(("path", "status"), [("/openai/v1/models", 200), ("/openai/v1/none", 404)])
def test_page_of_an_allowed_origin_asks_beforehand_and_reads_answers(
    service: Service, alice: Account, path: str, status: int
) -> None:
    asking = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = httpx.options(service.url + path, headers=asking, trust_env=False)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    answer = alice.http.get(path, headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
    refused = httpx.get(service.url + path, headers={"Origin": PAGE}, trust_env=False)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)


def test_openapi_describes_every_route(service: Service) -> None:
    paths = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()["paths"]
    assert set(paths) >= {
        "/v1/models", "/v1/models/{ref}", "/v1/models/{ref}/revisions",
        "/v1/models/{ref}/revisions/{n}/activate", "/v1/generate_response", "/v1/train", "/v1/jobs",
        "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/events", "/v1/usage", "/healthz", "/readyz", "/openai/health",
    }  # fmt: skip

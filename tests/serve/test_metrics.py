"""The requests of an ingress replica and its view of the system, as Prometheus reads them."""

from collections.abc import Iterator

import httpx
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.account import Account
from tests.support.waiting import wait_until

TIMEOUT_S = 30


def samples(name: str) -> Iterator[Sample]:
    """The samples of this node with this name."""
    url = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
    text = httpx.get(url, trust_env=False, timeout=TIMEOUT_S).raise_for_status().text
    for family in text_string_to_metric_families(text):
        yield from (sample for sample in family.samples if sample.name == f"ray_tiger_{name}")


def num_requests(**labels: str) -> float:
    return sum(each.value for each in samples("http_requests_total") if labels.items() <= each.labels.items())


def test_requests_are_counted_by_route_and_status_without_names(alice: Account) -> None:
    model = "/v1/models/{ref}"
    wanted = [
        {"method": "GET", "route": "/v1/models", "status": "200"},
        {"method": "GET", "route": model, "status": "200"},
        {"method": "GET", "route": model, "status": "404"},
        {"method": "GET", "route": model, "status": "401"},
        {"method": "GET", "route": "unknown", "status": "401"},
    ]
    before = [num_requests(**labels) for labels in wanted]
    alice.create("Orchid")
    for path in ("/v1/models", "/v1/models/orchid", "/v1/models/absent"):
        alice.http.get(path)
    for path in ("/v1/models/orchid", "/v1/tulip"):
        httpx.get(alice.http.base_url.join(path), trust_env=False)

    def are_counted() -> bool:
        return [num_requests(**labels) for labels in wanted] == [number + 1 for number in before]

    wait_until(are_counted, TIMEOUT_S, pause_s=0.2)
    routes = {sample.labels["route"] for sample in samples("http_requests_total")}
    assert not any(word in route for route in routes for word in ("orchid", "absent", "tulip"))
    durations = [each for each in samples("http_request_seconds_count") if each.labels["route"] == model]
    assert sum(each.value for each in durations) >= 3


@pytest.mark.usefixtures("service")
def test_readiness_is_in_prometheus() -> None:
    wait_until(lambda: [each.value for each in samples("storage_reachable")] == [1.0], TIMEOUT_S, pause_s=0.2)

    def are_ready() -> bool:
        found = {each.labels["base_model"]: each.value for each in samples("base_model_ready")}
        return found == {"one": 1.0, "two": 1.0}

    wait_until(are_ready, TIMEOUT_S, pause_s=0.2)

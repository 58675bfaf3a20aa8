"""The metrics for an operator, at the endpoints that the Ray dashboard names: numbers, but no user names."""

import os
import re
import secrets
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serve_app.instance.monitoring import PROMETHEUS, Monitoring
from serve_app.instance.state import STATE_FILE, StateFile
from tests.support.prometheus import installed, named_series, panels
from tests.support.system import Client, System
from tests.support.waiting import wait_until

PROMPT = "What is your favourite colour?"
REWARDS = {"Green.": 1.0, "I do not have one.": 0.0}
# Ray's processes tell their numbers every ten seconds, and the dashboard looks for nodes every five.
METRICS_TIMEOUT_S = 60
LABEL = re.compile(r"{{(\w+)}}")
WINDOW_S = 30
"""It is longer than the time after which Ray forgets a gauge that nobody sets."""
NOT_HERE = {
    "ray_node_gram_available": "There is no GPU.",
    "ray_node_gram_used": "There is no GPU.",
    "ray_serve_health_check_failures_total": "No replica has failed.",
    "ray_tiger_resource_wait_seconds": "Nothing waits for resources.",
}
"""Series that alerts and the dashboard name and that this system need not have, with the reason."""


class Prometheus:
    """A Prometheus that reads the metrics of the system every second."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self._url}/api/v1/{path}", params=parameters, trust_env=False, timeout=60)
        return answer.raise_for_status().json()["data"]

    def values(self, query: str) -> list[float]:
        return [float(each["value"][1]) for each in self.get("query", query=query)["result"]]


@pytest.fixture(scope="module")
def prometheus(system: System) -> Iterator[Prometheus]:
    """The Prometheus that `tiger up --monitoring` starts, which reads more often here."""
    installed("prometheus")
    home, port = system.instance.home, system.instance.dashboard_port
    state = StateFile(home / STATE_FILE)
    monitoring = Monitoring(home, state, port, is_wanted=True)
    monitoring.prepare(is_ray_running=True)
    try:
        monitoring.ensure(system.instance.token_path, lambda line: None)
        configuration = monitoring.directory / "prometheus.yaml"
        content = yaml.safe_load(configuration.read_text())
        content["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration.write_text(yaml.safe_dump(content))
        process = state.read().monitoring[PROMETHEUS.name].process
        assert process is not None
        os.kill(process.pid, signal.SIGHUP)
        yield Prometheus(monitoring.url(PROMETHEUS))
    finally:
        monitoring.stop()
        state.update(has_monitoring=False)


def dashboard(system: System, path: str) -> Any:
    headers = {"Authorization": f"Bearer {system.instance.token_path.read_text()}"}
    url = system.instance.dashboard_url + path
    return httpx.get(url, headers=headers, trust_env=False, timeout=60).raise_for_status().json()


def scraped(system: System) -> str:
    """Everything that Prometheus would read from every target that Ray names."""
    targets = [target for group in dashboard(system, "/api/prometheus/sd") for target in group["targets"]]
    return "\n".join(
        httpx.get(f"http://{target}/metrics", trust_env=False, timeout=60).raise_for_status().text
        for target in targets
    )


def steps_in_prometheus(system: System) -> dict[str, float]:
    """Optimizer steps by base model."""
    return {
        sample.labels["base_model"]: sample.value
        for family in text_string_to_metric_families(scraped(system))
        if family.name == "ray_tiger_training_steps"
        for sample in family.samples
    }


def tokens_in_prometheus(system: System) -> float:
    """The number of tokens that vLLM generated, for all base models together."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(scraped(system))
        if family.name == "ray_vllm_generation_tokens"
        for sample in family.samples
    )


@pytest.mark.usefixtures("prometheus")
def test_training_is_seen_in_prometheus(system: System, alice: Client) -> None:
    alice.create("Seen")
    before = steps_in_prometheus(system).get("smollm2-135m", 0)
    alice.train("seen", PROMPT, REWARDS, learning_steps=2)
    wait_until(lambda: steps_in_prometheus(system).get("smollm2-135m", 0) >= before + 2, METRICS_TIMEOUT_S)


def test_no_label_names_a_private_model_or_its_user(system: System, alice: Client, bob: Client) -> None:
    """Models of two users were made, trained, generated with, evicted and deleted before."""
    hidden = [alice.user, bob.user]
    for client in (alice, bob):
        for number in range(2):
            name = f"Walrus{secrets.token_hex(6)}"
            model = client.create(name, description=f"Of {name}.")["id"]
            hidden += [name, model, system.uid(client, model)]
            client.train(model, PROMPT, REWARDS, learning_steps=1)
            client.greedy(model, PROMPT, 4)
            body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4, "stream": number == 1}
            client.http.post("/openai/v1/chat/completions", json={"model": model, **body}).raise_for_status()
        client.call("DELETE", f"/v1/models/{model}")
    before = tokens_in_prometheus(system)
    alice.greedy("smollm2-135m", PROMPT, 8)
    # What was counted before this is told with it.
    wait_until(lambda: tokens_in_prometheus(system) > before, METRICS_TIMEOUT_S)
    text = scraped(system)
    assert [line for line in text.splitlines() if any(secret in line for secret in hidden)] == []
    assert "ray_serve_num_multiplexed_models" in text


def test_every_series_that_an_alert_or_the_dashboard_names_exists(prometheus: Prometheus) -> None:
    def missing() -> set[str]:
        present = set(prometheus.get("label/__name__/values"))
        return named_series() - present - NOT_HERE.keys()

    try:
        wait_until(lambda: not missing(), METRICS_TIMEOUT_S, pause_s=0.5)
    except AssertionError:
        raise AssertionError(f"there are no {sorted(missing())}") from None


def test_every_label_that_a_panel_shows_is_one_of_its_series(prometheus: Prometheus) -> None:
    num_shown = 0
    for target in (target for panel in panels() for target in panel["targets"]):
        query = target["expr"].replace("$__rate_interval", "1m")
        for series in prometheus.get("query", query=query)["result"]:
            labels = set(LABEL.findall(target["legendFormat"]))
            assert labels <= series["metric"].keys(), target
            num_shown += 1
    assert num_shown > len(panels()) / 2


def test_every_alert_can_be_evaluated_and_none_says_that_something_is_away(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 5
    assert [rule["name"] for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []
    assert min(prometheus.values('up{job="tiger"}')) == 1
    away = {"TigerBaseModelNotReady", "TigerMetricsMissing", "TigerStorageUnreachable"}
    assert [rule["name"] for rule in rules if rule["name"] in away and rule["alerts"]] == []


def test_gauges_are_in_every_scrape(prometheus: Prometheus) -> None:
    """Ray forgets a gauge 20 s after it was last set, and the queue has not changed for longer."""
    window = f"[{WINDOW_S}s]"
    wait_until(lambda: min(prometheus.values(f"count_over_time(up{window})")) > 0.8 * WINDOW_S, 60, 0.5)
    num_scrapes = max(prometheus.values(f"count_over_time(up{window})"))
    for name in ("training_queue_length", "training_step_loss", "base_model_ready", "storage_reachable"):
        counts = prometheus.values(f"count_over_time(ray_tiger_{name}{{}}{window})")
        assert max(counts) >= num_scrapes - 3, name

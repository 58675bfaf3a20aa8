"""What an operator sees of a training: its numbers, from the endpoints that the Ray dashboard names."""

import time
from collections.abc import Callable
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.system import Client, System

PROMPT = "What is your favourite colour?"
REWARDS = {"Green.": 1.0, "I do not have one.": 0.0}
# Ray's processes tell their numbers every ten seconds, and the dashboard looks for nodes every five.
METRICS_TIMEOUT_S = 60


def dashboard(system: System, path: str) -> Any:
    headers = {"Authorization": f"Bearer {system.instance.token_path.read_text()}"}
    url = system.instance.dashboard_url + path
    return httpx.get(url, headers=headers, trust_env=False, timeout=60).raise_for_status().json()


def steps_in_prometheus(system: System) -> dict[str, float]:
    """Optimizer steps by base model, read as Prometheus would: from every target that Ray names."""
    targets = [target for group in dashboard(system, "/api/prometheus/sd") for target in group["targets"]]
    found = {}
    for target in targets:
        text = httpx.get(f"http://{target}/metrics", trust_env=False, timeout=60).raise_for_status().text
        for family in text_string_to_metric_families(text):
            if family.name == "ray_tiger_training_steps":
                found |= {sample.labels["base_model"]: sample.value for sample in family.samples}
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


def test_training_is_seen_in_prometheus(system: System, alice: Client) -> None:
    alice.create("Seen")
    before = steps_in_prometheus(system).get("smollm2-135m", 0)
    alice.train("seen", PROMPT, REWARDS, learning_steps=2)
    wait_until(lambda: steps_in_prometheus(system).get("smollm2-135m", 0) >= before + 2, METRICS_TIMEOUT_S)

"""The metrics for an operator, at the endpoints that the Ray dashboard names: numbers, but no user names."""

import secrets
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.system import Client, System
from tests.support.waiting import wait_until

PROMPT = "What is your favourite colour?"
REWARDS = {"Green.": 1.0, "I do not have one.": 0.0}
# Ray's processes tell their numbers every ten seconds, and the dashboard looks for nodes every five.
METRICS_TIMEOUT_S = 60


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

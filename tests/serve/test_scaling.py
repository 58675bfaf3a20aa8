"""A base model without replicas starts for a request, and loses its last replica when nobody uses it."""

import json
from collections.abc import Iterator

import httpx
import pytest

from serve_app.scaling_settings import BaseModelAutoscaling
from serve_app.settings import Settings
from tests.support.account import HELLO, Account, assert_error
from tests.support.replicas import num_running
from tests.support.service import Service, base_model
from tests.support.waiting import wait_until

SLEEPY = BaseModelAutoscaling(
    min_replicas=0,
    max_replicas=1,
    look_back_period_s=1,
    upscale_delay_s=0,
    downscale_delay_s=1,
    downscale_to_zero_delay_s=1,
    cold_start_timeout_s=60,
)
START_S = 30
SLEEP_S = 30


@pytest.fixture
def restored(service: Service) -> Iterator[Settings]:
    settings = service.settings
    yield settings
    service.deploy(settings)


def with_three(settings: Settings, autoscaling: BaseModelAutoscaling) -> Settings:
    """The settings with one more base model, which has as many replicas as its load needs."""
    three = base_model("three", "Three")
    changes = {"autoscaling": autoscaling, "graceful_shutdown_wait_loop_s": 0.1}
    serving = three.serving.model_copy(update=changes)
    return settings.model_copy(
        update={"models": (*settings.models, three.model_copy(update={"serving": serving}))}
    )


def is_asleep(service: Service) -> bool:
    response = httpx.get(f"{service.url}/readyz", trust_env=False, timeout=30)
    return response.status_code == 200 and response.json() == {"status": "ready", "asleep": ["three"]}


def test_base_model_sleeps_while_nobody_uses_it(service: Service, alice: Account, restored: Settings) -> None:
    """Its replica answers health checks slowly.

    A question of the ingress for its health is therefore nearly always in progress. It must not keep the
    replica, nor start one.
    """
    down, slow = service.signals / "down three", service.signals / "slow three"
    down.touch()
    slow.touch()
    try:
        impatient = SLEEPY.model_copy(update={"cold_start_timeout_s": 2})
        service.deploy(with_three(restored, impatient))
        wait_until(lambda: is_asleep(service), 10)
        refusal = alice.generate(model="three")
        assert_error(refusal, 503, "unavailable")
        assert "three did not start within 2 s" in refusal.json()["error"]["message"]

        service.deploy(with_three(restored, SLEEPY))
        body = {"model": "three", "messages": HELLO, "stream": True}
        with alice.http.stream("POST", "/v1/generate_response", json=body, timeout=START_S) as response:
            lines = response.iter_lines()
            assert json.loads(next(lines)) == {"type": "info", "message": "Starting Three"}
            down.unlink()
            chunks = [json.loads(line) for line in lines]
        assert [chunk["type"] for chunk in chunks if chunk["type"] != "info"] == ["delta", "stop"]

        wait_until(lambda: num_running("three") == 0, SLEEP_S, pause_s=0.2)
        wait_until(lambda: is_asleep(service), 10)
        chat = {"model": "three", "messages": HELLO}
        assert alice.http.post("/openai/v1/chat/completions", json=chat, timeout=START_S).status_code == 200
        assert num_running("three") == 1
    finally:
        down.unlink(missing_ok=True)
        slow.unlink()

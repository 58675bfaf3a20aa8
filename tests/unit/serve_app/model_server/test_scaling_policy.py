"""The number of replicas follows the generations in them, and not the calls that ask for their health."""

from typing import Any

import pytest
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve_app.model_server.scaling_policy import GENERATIONS, by_generations
from tests.support.ray_private import DeploymentID

ID = DeploymentID(name="ModelServer:one", app_name="base-model-one")


def wanted(
    reported: dict[str, float], running: list[str], num_calls: float = 0, num_waiting: float = 0
) -> float:
    """The number of replicas that the policy wants, with 10 generations for each of them."""
    replicas: Any = running
    metrics: Any = {GENERATIONS: reported} if reported else {}
    context = AutoscalingContext(
        deployment_id=ID,
        deployment_name=ID.name,
        app_name=ID.app_name,
        current_num_replicas=len(running),
        target_num_replicas=len(running),
        running_replicas=replicas,
        total_num_requests=num_calls,
        total_queued_requests=num_waiting,
        aggregated_metrics=metrics,
        raw_metrics={},
        capacity_adjusted_min_replicas=0,
        capacity_adjusted_max_replicas=4,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=None,
        config=AutoscalingConfig(min_replicas=0, max_replicas=4, target_ongoing_requests=10),
    )
    number, state = by_generations(context)
    assert state == {}
    return number


@pytest.mark.parametrize(
    ("reported", "num_waiting", "number"),
    [({"a": 0, "b": 0}, 0, 0), ({"a": 25, "b": 5}, 0, 3), ({"a": 0, "b": 5}, 5, 1)],
)
def test_number_follows_the_generations(
    reported: dict[str, float], num_waiting: float, number: float
) -> None:
    """The calls in progress, which also ask for the health, do not count."""
    assert wanted(reported, ["a", "b"], num_calls=7, num_waiting=num_waiting) == number


def test_replica_that_has_stopped_no_longer_counts() -> None:
    assert wanted({"a": 10, "gone": 30}, ["a"]) == 1


@pytest.mark.parametrize("reported", [{}, {"a": 0.0}])
def test_calls_count_while_a_replica_has_reported_nothing(reported: dict[str, float]) -> None:
    """A new replica reports after some seconds. It must not seem idle until then."""
    assert wanted(reported, ["a", "b"], num_calls=20) == 2


def test_first_request_wants_a_replica() -> None:
    assert wanted({}, [], num_calls=1, num_waiting=1) > 0
    assert wanted({}, []) == 0

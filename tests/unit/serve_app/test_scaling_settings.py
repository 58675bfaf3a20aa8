"""The settings by which Serve adds, checks and ends replicas."""

from typing import Any

import pytest
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig

from serve_app.scaling_settings import Autoscaling, BaseModelAutoscaling
from serve_app.settings import IngressSettings, Settings
from tests.unit.serve_app.test_serve_config import document


def settings_with(**serving: Any) -> Settings:
    least = document()
    least["models"][0]["serving"] |= serving
    return Settings(**least)


@pytest.mark.parametrize("section", [Autoscaling(max_replicas=3), BaseModelAutoscaling(min_replicas=0)])
def test_serve_knows_every_option(section: Autoscaling) -> None:
    config = section.serve_config()
    assert config.keys() <= AutoscalingConfig.model_fields.keys()
    accepted = AutoscalingConfig(**config)
    assert (accepted.min_replicas, accepted.max_replicas) == (section.min_replicas, section.max_replicas)


def test_policy_of_a_base_model_is_one_that_can_be_imported() -> None:
    policy = AutoscalingConfig(**BaseModelAutoscaling().serve_config()).policy
    assert policy.get_policy().__name__ == "by_generations"
    assert AutoscalingConfig(**Autoscaling().serve_config()).policy.is_default_policy_function()


@pytest.mark.parametrize("section", [Autoscaling, BaseModelAutoscaling])
def test_bounds_out_of_order_are_refused(section: type[Autoscaling]) -> None:
    with pytest.raises(ValidationError, match="min_replicas: it is 3, and max_replicas is 2"):
        section(min_replicas=3, max_replicas=2)


def test_only_a_base_model_may_have_no_replica() -> None:
    assert BaseModelAutoscaling(min_replicas=0).may_sleep
    with pytest.raises(ValidationError, match="min_replicas"):
        Autoscaling(min_replicas=0)


def test_number_of_replicas_is_given_in_one_way() -> None:
    with pytest.raises(ValidationError, match="num_replicas: leave it out"):
        IngressSettings(num_replicas=2, autoscaling=Autoscaling())
    with pytest.raises(ValidationError, match="num_replicas: leave it out"):
        settings_with(num_replicas=2, autoscaling={})


def test_target_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(ValidationError, match="target_ongoing_requests: it is above max_ongoing_requests"):
        IngressSettings(max_ongoing_requests=100, autoscaling=Autoscaling(target_ongoing_requests=200))


def test_replicas_that_lend_their_gpu_do_not_come_and_go() -> None:
    least = document()
    least["models"][0]["training"] = {"share_gpu": True}
    Settings(**least)
    least["models"][0]["serving"]["autoscaling"] = {"min_replicas": 0}
    with pytest.raises(ValidationError, match=r"serving.autoscaling: .* training.share_gpu"):
        Settings(**least)


def test_room_is_needed_for_the_least_number_and_shares_are_those_of_the_largest() -> None:
    serving = settings_with(autoscaling={"min_replicas": 0, "max_replicas": 3}).models[0].serving
    assert (serving.least_replicas, serving.most_replicas) == (1, 3)
    serving = settings_with(num_replicas=2).models[0].serving
    assert (serving.least_replicas, serving.most_replicas) == (2, 2)

"""The settings by which Ray Serve adds, checks and ends the replicas of a deployment.

ingress.autoscaling, models[].serving.autoscaling  ->  Serve's `autoscaling_config`
ingress, models[].serving: health_check_*, graceful_shutdown_*  ->  Serve's options of the same names
"""

from typing import Any, Self

from pydantic import Field, model_validator

from registry.records import Record

POLICY = "serve_app.model_server.scaling_policy:by_generations"
"""The function by which Serve's controller chooses the number of replicas of a base model."""


class Autoscaling(Record):
    """The bounds of the number of replicas, and how fast Serve changes it."""

    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(4, ge=1)
    target_ongoing_requests: float = Field(200, gt=0, description="requests in progress for each replica")
    look_back_period_s: float = Field(
        30, ge=1, description="time over which Serve takes the mean of the requests in progress"
    )
    upscale_delay_s: float = Field(30, ge=0, description="time of more load before replicas are added")
    downscale_delay_s: float = Field(600, ge=0, description="time of less load before replicas are removed")

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas: it is {self.min_replicas}, and max_replicas is {self.max_replicas}"
            )
        return self

    def serve_config(self) -> dict[str, Any]:
        """Returns Serve's `autoscaling_config`."""
        return self.model_dump(mode="json")


class BaseModelAutoscaling(Autoscaling):
    """The same for the replicas of a base model, of which there may be none while nobody uses it."""

    min_replicas: int = Field(1, ge=0, description="0: no replica while nobody uses the base model")
    target_ongoing_requests: float = Field(
        16, gt=0, description="generations in progress or waiting for each replica"
    )
    downscale_to_zero_delay_s: float = Field(
        600, ge=0, description="time without use before the last replica is removed"
    )
    cold_start_timeout_s: float = Field(
        300, gt=0, description="time that a request waits for the first replica; then 503"
    )

    @property
    def may_sleep(self) -> bool:
        """True if the base model has no replica while nobody uses it."""
        return self.min_replicas == 0

    def serve_config(self) -> dict[str, Any]:
        ours = self.model_dump(mode="json", exclude={"cold_start_timeout_s"})
        return ours | {"policy": {"policy_function": POLICY}}


class ReplicaLife(Record):
    """The times by which Serve checks and ends the replicas of a deployment. The defaults are Serve's own."""

    health_check_period_s: float = Field(10, gt=0, description="time between two health checks of a replica")
    health_check_timeout_s: float = Field(
        30, gt=0, description="time for an answer; Serve replaces a replica after three failed checks"
    )
    graceful_shutdown_timeout_s: float = Field(
        20, ge=0, description="time in which a replica that is removed may finish its requests"
    )
    graceful_shutdown_wait_loop_s: float = Field(
        2, gt=0, description="time between two looks at whether they have ended"
    )

    def serve_options(self) -> dict[str, Any]:
        """Returns the options of a deployment that differ from the defaults."""
        return self.model_dump(mode="json", include=LIFE, exclude_defaults=True)


LIFE = set(ReplicaLife.model_fields)


def require_one_number(num_replicas: int, autoscaling: Autoscaling | None) -> None:
    """Raises: ValueError, if the number of replicas is fixed and follows the load too."""
    if autoscaling is not None and num_replicas != 1:
        raise ValueError("num_replicas: leave it out, because autoscaling chooses the number of replicas")

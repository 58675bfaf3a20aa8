"""A Serve that a test has in its own process, in place of the REST API of a Ray dashboard."""

from collections.abc import Callable
from typing import Any

from serve_app.instance.serve_client import ApplicationState, DeploymentState, ServeState


def application(
    name: str,
    status: str = "RUNNING",
    config: dict[str, Any] | None = None,
    message: str = "",
    replicas: int = 1,
) -> ApplicationState:
    """An application with one deployment, whose name is that of the application with a prefix."""
    deployment = DeploymentState(
        name=f"Deployment:{name}", status="UPDATING", message=message, replicas=replicas, target_replicas=1
    )
    return ApplicationState(name=name, status=status, deployments=(deployment,), config=config or {})


class FakeServe:
    """Serve, where a submitted application gets the status that `status_of` returns for its name."""

    def __init__(
        self,
        status_of: Callable[[str], str] = lambda name: "RUNNING",
        message: str = "",
        resources: dict[str, float] | None = None,
    ) -> None:
        self._status_of = status_of
        self._message = message
        self._resources = resources or {"CPU": 64.0, "GPU": 8.0}
        self._state = ServeState()
        self.submitted: list[dict[str, Any]] = []
        self.num_deletions = 0

    def state(self) -> ServeState:
        return self._state

    def deploy(self, config: dict[str, Any]) -> None:
        self.submitted.append(config)
        self._state = ServeState(
            http_options=config["http_options"],
            applications={
                each["name"]: application(each["name"], self._status_of(each["name"]), each, self._message)
                for each in config["applications"]
            },
        )

    def delete_all(self) -> None:
        self.num_deletions += 1
        self._state = ServeState()

    def resources(self) -> dict[str, float]:
        return self._resources

    @property
    def names(self) -> list[str]:
        """The names of the applications of the last submission."""
        return [each["name"] for each in self.submitted[-1]["applications"]]

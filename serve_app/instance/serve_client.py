"""Calls Ray Serve through the REST API of the Ray dashboard, as `serve deploy` does.

Ray's own client reads one token per process and uses proxy variables. This client can serve several instances
in one process, and it connects to loopback directly.
"""

import time
from typing import Any

import httpx
from pydantic import Field

from registry.records import Record
from serve_app.deployment_options import model_server_name
from serve_app.instance import waits
from serve_app.instance.dashboard import Dashboard
from serve_app.instance.processes import InstanceError

PATH = "/api/serve/applications/"
NODES_PATH = "/api/v0/nodes"
ACCESS_REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class DeploymentState(Record):
    name: str
    status: str
    message: str
    replicas: int
    target_replicas: int

    @property
    def is_asleep(self) -> bool:
        """True for a base model that has no replica because nobody uses it."""
        is_idle = self.replicas == self.target_replicas == 0 and self.status == "HEALTHY"
        return is_idle and self.name.startswith(model_server_name(""))

    def as_text(self) -> str:
        """Returns a text such as `Ingress 1/1`, or `ModelServer:x asleep`."""
        return f"{self.name} " + ("asleep" if self.is_asleep else f"{self.replicas}/{self.target_replicas}")


class ApplicationState(Record):
    """The state of an application in Serve. `status` is Serve's own value, or NOT_STARTED."""

    name: str = ""
    status: str = "NOT_STARTED"
    message: str = ""
    deployments: tuple[DeploymentState, ...] = ()
    config: dict[str, Any] = Field({}, description="the submitted configuration")

    def as_line(self) -> str:
        """Returns a line such as `Ingress 1/1, Catalog 0/1`, or `tiger deploying` without deployments."""
        shown = (each for each in self.deployments if each.replicas or each.target_replicas or each.is_asleep)
        return ", ".join(each.as_text() for each in shown) or f"{self.name} {self.status.lower()}"

    def reason(self) -> str:
        """Returns Serve's messages, which say why the application does not run."""
        messages = [
            self.message,
            *(f"{each.name}: {each.message}" for each in self.deployments if each.message),
        ]
        return "\n".join(filter(None, messages)) or f"status {self.status}"


class ServeState(Record):
    """The state of Serve: the address where it listens, and its applications by their names."""

    http_options: dict[str, Any] = Field({})
    applications: dict[str, ApplicationState] = Field({})

    def application(self, name: str) -> ApplicationState:
        return self.applications.get(name) or ApplicationState(name=name)

    def as_line(self) -> str:
        """Returns a line such as `Ingress 1/1, ModelServer:x 0/1` of all applications."""
        return ", ".join(each.as_line() for each in self.applications.values()) or "nothing"


class ServeClient:
    def __init__(self, dashboard: Dashboard) -> None:
        self._url = dashboard.url
        self._client = httpx.Client(
            base_url=dashboard.url,
            headers={"Authorization": f"Bearer {dashboard.token}"} if dashboard.token else {},
            timeout=60,
            trust_env=not dashboard.is_of_this_machine,
        )

    def deploy(self, config: dict[str, Any]) -> None:
        """Submits a whole Serve config. Serve deletes the applications that the config does not have."""
        self._send("PUT", PATH, config)

    def delete_all(self) -> None:
        """Deletes all applications. Returns when the replicas have finished, or their grace time is over."""
        self._send("DELETE", PATH)

    def state(self) -> ServeState:
        details = self._send("GET", PATH).json()
        return ServeState(
            http_options=details.get("http_options") or {},
            applications={
                name: _application(name, each) for name, each in details.get("applications", {}).items()
            },
        )

    def resources(self) -> dict[str, float]:
        """Returns the sums of the resources of all living nodes, such as CPU and GPU."""
        answer = self._send("GET", f"{NODES_PATH}?detail=true&limit=10000").json()
        totals: dict[str, float] = {}
        for node in answer["data"]["result"]["result"]:
            if node["state"] == "ALIVE":
                for name, amount in (node["resources_total"] or {}).items():
                    totals[name] = totals.get(name, 0) + amount
        return totals

    def waits(self) -> tuple[waits.Wait, ...]:
        """Returns what waits for resources."""
        answer = self._send("GET", waits.PATH, parameters=waits.PARAMETERS).json()
        return waits.waits_of(answer["data"]["result"]["result"], time.time())

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        parameters: dict[str, str] | None = None,
    ) -> httpx.Response:
        request = self._client.build_request(method, path, json=body, params=parameters)
        try:
            try:
                response = self._client.send(request)
            except httpx.RemoteProtocolError:  # the idle connection was closed; a repetition is harmless
                response = self._client.send(request)
        except httpx.HTTPError as error:
            raise InstanceError(f"the Ray dashboard at {self._url} does not answer: {error!r}") from error
        if response.status_code in ACCESS_REFUSED:
            raise InstanceError(
                f"the Ray dashboard at {self._url} refuses the token of this command: set RAY_AUTH_TOKEN or "
                "RAY_AUTH_TOKEN_PATH to the token of the cluster"
            )
        if response.is_error:
            raise InstanceError(f"Ray refused the request ({response.status_code}): {response.text.strip()}")
        return response


def _application(name: str, details: dict[str, Any]) -> ApplicationState:
    return ApplicationState(
        name=name,
        status=details["status"],
        message=details["message"],
        deployments=tuple(_deployment(each) for each in details["deployments"].values()),
        config=details.get("deployed_app_config") or {},
    )


def _deployment(details: dict[str, Any]) -> DeploymentState:
    return DeploymentState(
        name=details["name"],
        status=details["status"],
        message=details["message"],
        replicas=sum(replica["state"] == "RUNNING" for replica in details["replicas"]),
        target_replicas=details["target_num_replicas"],
    )

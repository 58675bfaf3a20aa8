"""Calls Ray Serve through the REST API of the Ray dashboard, as `serve deploy` does.

Ray's own client reads one token per process and uses proxy variables. This client can serve several instances
in one process, and it connects to loopback directly.
"""

from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import Field

from registry.records import Record
from serve_app.instance.processes import InstanceError

PATH = "/api/serve/applications/"
CLUSTER_DIRECTORY = Path(__file__).resolve().parents[2] / "cluster"


class DeploymentState(Record):
    name: str
    status: str
    message: str
    replicas: int
    target_replicas: int


class ApplicationState(Record):
    """The state of the application in Serve. `status` is Serve's own value, or NOT_STARTED."""

    status: str = "NOT_STARTED"
    message: str = ""
    deployments: tuple[DeploymentState, ...] = ()
    config: dict[str, Any] = Field({}, description="the submitted configuration")

    def as_line(self) -> str:
        """Returns a line such as `Ingress 1/1, Catalog 0/1`. Without deployments it is the status."""
        parts = (f"{each.name} {each.replicas}/{each.target_replicas}" for each in self.deployments)
        return ", ".join(parts) or self.status.lower()

    def reason(self) -> str:
        """Returns Serve's messages, which say why the application does not run."""
        messages = [
            self.message,
            *(f"{each.name}: {each.message}" for each in self.deployments if each.message),
        ]
        return "\n".join(filter(None, messages)) or f"status {self.status}"


def read_serve_config(config: str, host: str, port: int, path: Path | None = None) -> dict[str, Any]:
    """Returns the Serve config for a configuration, with the address of this instance.

    `config` names `cluster/serve.<config>.yaml`. If there is no such file, or it is the path of a settings
    file, the local one is used.
    """
    named = CLUSTER_DIRECTORY / f"serve.{config}.yaml"
    path = path or (named if named.is_file() else CLUSTER_DIRECTORY / "serve.local.yaml")
    serve_config: dict[str, Any] = yaml.safe_load(path.read_text())
    serve_config.setdefault("http_options", {}).update(host=host, port=port)
    serve_config["applications"][0].setdefault("args", {})["config"] = config
    return serve_config


class ServeClient:
    def __init__(self, dashboard_port: int, token_path: Path) -> None:
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{dashboard_port}",
            headers={"Authorization": f"Bearer {token_path.read_text()}"},
            timeout=60,
            trust_env=False,
        )

    def deploy(self, config: dict[str, Any]) -> None:
        self._send("PUT", config)

    def delete_all(self) -> None:
        """Deletes all applications. Returns when the replicas have finished, or their grace time is over."""
        self._send("DELETE", None)

    def state(self, name: str) -> ApplicationState:
        details = self._send("GET", None).json().get("applications", {}).get(name)
        if details is None:
            return ApplicationState()
        return ApplicationState(
            status=details["status"],
            message=details["message"],
            deployments=tuple(_deployment(each) for each in details["deployments"].values()),
            config=details.get("deployed_app_config") or {},
        )

    def _send(self, method: str, body: dict[str, Any] | None) -> httpx.Response:
        try:
            try:
                response = self._client.request(method, PATH, json=body)
            except httpx.RemoteProtocolError:  # the idle connection was closed; a repetition is harmless
                response = self._client.request(method, PATH, json=body)
        except httpx.HTTPError as error:
            raise InstanceError(f"the Ray dashboard does not answer: {error!r}") from error
        if response.is_error:
            raise InstanceError(
                f"Ray Serve refused the request ({response.status_code}): {response.text.strip()}"
            )
        return response


def _deployment(details: dict[str, Any]) -> DeploymentState:
    return DeploymentState(
        name=details["name"],
        status=details["status"],
        message=details["message"],
        replicas=sum(replica["state"] == "RUNNING" for replica in details["replicas"]),
        target_replicas=details["target_num_replicas"],
    )

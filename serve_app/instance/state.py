"""The state that a home keeps between commands: the operator's choices, and the processes started for it."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from registry.records import Record
from serve_app.instance.processes import ProcessIdentity
from serve_app.instance.ray_head import RayHead

STATE_FILE = "instance.json"


class MonitoringProgram(Record):
    """The port of Prometheus or Grafana, and its process; None: not started."""

    port: int
    process: ProcessIdentity | None = None


class InstanceState(Record):
    """The content of STATE_FILE in a home. None: not chosen or not started yet."""

    config: str | None = None
    http_port: int | None = None
    dashboard_port: int | None = None
    storage_port: int | None = None
    storage: ProcessIdentity | None = None
    ray: RayHead | None = None
    has_monitoring: bool = False
    monitoring: dict[str, MonitoringProgram] = Field({}, description="by the name of the program")


class StateFile:
    """The file of an `InstanceState`. Each change is completely on disk before `update` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> InstanceState:
        """Returns the state. An unreadable file counts as empty: the marker still finds its processes."""
        try:
            return InstanceState.model_validate_json(self.path.read_text())
        except (FileNotFoundError, ValidationError):
            return InstanceState()

    def update(self, **changes: Any) -> InstanceState:
        state = self.read().model_copy(update=changes)
        partial_path = self.path.with_suffix(".partial")
        partial_path.write_text(state.model_dump_json(indent=2))
        partial_path.rename(self.path)
        return state

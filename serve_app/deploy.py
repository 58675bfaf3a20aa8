"""One deployment: it says what changes and at what cost, asks, submits, and waits for the end.

Target     where: an instance of this machine, or a cluster
Deploy     what: the settings
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from typing import Any, Protocol

from registry.audit import AuditLog
from registry.errors import TigerError
from registry.operator_actions import recorded_deployment
from registry.store import ObjectStore, StorageUnfit
from registry.user_models import count_by_base_model
from serve_app.instance.application_start import ApplicationStart, Readiness
from serve_app.instance.instance import Instance
from serve_app.instance.needed_resources import shortages
from serve_app.instance.processes import Report
from serve_app.instance.serve_changes import Change
from serve_app.instance.serve_update import Serve, ServeUpdate
from serve_app.instance.start_failure import StartWatch
from serve_app.settings import Settings

Ask = Callable[[str], bool]


class Outcome(IntEnum):
    """The exit status of `tiger deploy`. The status of an error is 1."""

    DONE = 0
    NOT_CONFIRMED = 3


class ServeWithNodes(Serve, Protocol):
    """Serve, and the resources of the nodes. `ServeClient` describes the calls."""

    def resources(self) -> dict[str, float]: ...


class Target(Protocol):
    """The place of a deployment. `apply` submits the update, and returns when it is done."""

    @property
    def update(self) -> ServeUpdate: ...

    def resources(self) -> dict[str, float]: ...

    def store(self) -> ObjectStore: ...

    def apply(self, report: Report, timeout_s: float) -> None: ...


class ClusterTarget:
    """A Ray that others started. Its bucket is the one that the settings of this process name."""

    def __init__(
        self, serve: ServeWithNodes, config: Mapping[str, Any], name: str, store: ObjectStore, show: Report
    ) -> None:
        self._serve = serve
        self._name = name
        self._store = store
        self._show = show
        self.update = ServeUpdate(serve, config, self._recorded)

    def resources(self) -> dict[str, float]:
        return self._serve.resources()

    def store(self) -> ObjectStore:
        return self._store

    @contextmanager
    def _recorded(self, submitted: Mapping[str, Any]) -> Iterator[None]:
        """Records the deployment if the bucket can be reached from here. The cluster may reach it anyway."""
        with ExitStack() as stack:
            try:
                stack.enter_context(recorded_deployment(AuditLog(self._store), self._name, submitted))
            except (TigerError, StorageUnfit):
                self._show("warning: storage cannot be reached from here: the audit log will not have this")
            yield

    def apply(self, report: Report, timeout_s: float) -> None:
        """Raises: InstanceError: an application cannot be deployed, or the time is over."""
        self.update.submit()
        watch = StartWatch(logs=None)
        ApplicationStart(
            self.update, watch, _is_served, _ray_is_not_ours, report, timeout_s, gives_up=False
        ).wait()


class InstanceTarget:
    """An instance of this machine that runs."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.update = instance.serve_update()

    def resources(self) -> dict[str, float]:
        return self._instance.serve.client.resources()

    def store(self) -> ObjectStore:
        return self._instance.store()

    def apply(self, report: Report, timeout_s: float) -> None:
        """Raises: InstanceError: the machine cannot serve this, something fails, or the time is over."""
        self._instance.deploy(report, timeout_s)


class Deploy:
    """`show` tells the operator what will change, and `ask` gets their answer. None: nobody can be asked."""

    def __init__(self, target: Target, settings: Settings, show: Report, ask: Ask | None) -> None:
        self._target = target
        self._settings = settings
        self._show = show
        self._ask = ask

    def is_wanted(self, is_dry_run: bool = False) -> Outcome | None:
        """Shows the changes and asks. Returns None if they are wanted, and else how the command ends."""
        changes = self._target.update.changes()
        for line in shortages(self._settings, self._target.resources()):
            self._show(f"warning: {line}")
        for change in changes:
            self._show(change.text)
        self._show_private_models(changes)
        if not changes:
            self._show("nothing changes")
        if not changes or is_dry_run:
            return Outcome.DONE
        return None if self._is_confirmed(changes) else Outcome.NOT_CONFIRMED

    def _is_confirmed(self, changes: Sequence[Change]) -> bool:
        disruptive = [change for change in changes if change.is_disruptive]
        if not disruptive:
            return True
        if self._ask is None:
            self._show("nothing was changed: these changes end replicas, and need --yes without a terminal")
            return False
        parts = ", ".join(dict.fromkeys(part for change in disruptive for part in change.parts))
        return self._ask(f"This ends replicas of {parts}. Go on?")

    def _show_private_models(self, changes: Sequence[Change]) -> None:
        """Shows how many private models lose their base model, if the bucket can be reached from here."""
        removed = [change.base_model for change in changes if change.base_model is not None]
        if not removed:
            return
        try:
            counts = count_by_base_model(self._target.store())
        except (TigerError, StorageUnfit):
            return self._show("the number of their private models is not known: storage cannot be reached")
        for base_model in removed:
            self._show(f"base model {base_model} has {counts[base_model]} private models")


def _is_served() -> Readiness:
    """The address of a cluster's API is not known here. Serve says whether the applications run."""
    return Readiness(True, "")


def _ray_is_not_ours() -> None:
    """Does nothing: the dashboard of a cluster that has ended does not answer."""

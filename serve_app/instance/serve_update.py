"""One update of what Serve runs: its changes, its submission, and the wait until everything is as asked.

ServeUpdate.changes()   what differs, and what it costs
ServeUpdate.submit()    the whole Serve config; Serve deletes applications that it does not have
ServeUpdate.missing()   the applications that do not run as submitted yet
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from serve_app.instance.processes import InstanceError, Report, wait_until
from serve_app.instance.serve_changes import (
    Change,
    Cost,
    address_changes,
    base_model_of,
    changes_between,
    repetition,
)
from serve_app.instance.serve_client import ApplicationState, ServeState

Config = Mapping[str, Any]
Recorded = Callable[[Config], AbstractContextManager[None]]
"""Records that a Serve config is submitted, which happens inside of the context."""
END_TIMEOUT_S = 120
FAILED = "DEPLOY_FAILED"
"""The status of an application that Serve has given up."""


class Serve(Protocol):
    """The calls of Serve that are used here. `ServeClient` describes them."""

    def state(self) -> ServeState: ...

    def deploy(self, config: dict[str, Any]) -> None: ...

    def delete_all(self) -> None: ...


class ServeUpdate:
    """The way from what Serve runs to a Serve config. It changes nothing before `submit`."""

    def __init__(
        self, serve: Serve, config: Config, recorded: Recorded = lambda config: nullcontext()
    ) -> None:
        self._serve = serve
        self._config = config
        self._recorded = recorded
        self._asked: dict[str, Any] = {each["name"]: each for each in config["applications"]}
        self._submitted: dict[str, Any] = {}
        self._leaving: set[str] = set()

    def changes(self) -> list[Change]:
        """Returns what differs between what Serve runs and what is asked."""
        state = self._serve.state()
        if not state.applications:
            return changes_between({}, self._asked)
        lost = [name for name in self._asked if state.application(name).status == FAILED]
        running = {name: each for name, each in deployed_configs(state).items() if name not in lost}
        asked = {name: each for name, each in self._asked.items() if name not in lost}
        return [
            *address_changes(state.http_options, self._config["http_options"]),
            *changes_between(running, asked),
            *map(repetition, lost),
        ]

    def new_base_models(self) -> set[str]:
        """Returns the ids of the base models that are asked and that Serve does not run."""
        state = self._serve.state()
        running = {name for name, each in state.applications.items() if each.status != FAILED}
        return {each for name in self._asked.keys() - running if (each := base_model_of(name)) is not None}

    def submit(self) -> None:
        """Submits everything that is asked.

        Serve would do nothing about an application that has failed with the same config. It is deleted first.
        """
        self._withdraw(self._hopeless(self._serve.state()))
        self._leaving = self._deployed().keys() - self._asked.keys()
        self._submitted = self._asked
        with self._recorded(self._config):
            self._serve.deploy(dict(self._config))

    def submit_what_ends_nothing(self, report: Report) -> None:
        """Submits the changes if none of them ends replicas that run. Otherwise it only reports them."""
        changes = self.changes()
        if changes and not any(each.is_disruptive for each in changes):
            if self._deployed():
                report_changes(changes, report)
            self.submit()
            return report("deployment: submitted")
        self._submitted = self._deployed()
        if changes:
            report_changes(changes, report)
            report("deployment: left as it is: these changes end replicas, and `tiger deploy` applies them")
        else:
            report("deployment: submitted before")

    def give_up(self, name: str) -> None:
        """Deletes an application that can never start, so that Serve does not try it again."""
        self._deploy_only({each: config for each, config in self._deployed().items() if each != name})

    def state(self) -> ServeState:
        return self._serve.state()

    def missing(self, state: ServeState) -> list[str]:
        """Returns the applications that do not run as submitted yet, or are about to leave."""
        return [
            *(name for name in self._submitted if not self._runs_as_submitted(state.application(name))),
            *(name for name in sorted(self._leaving) if name in state.applications),
        ]

    def _runs_as_submitted(self, application: ApplicationState) -> bool:
        submitted = self._submitted[application.name]
        return application.status == "RUNNING" and not _differences(
            application.name, application.config, submitted
        )

    def _deployed(self) -> dict[str, Any]:
        return deployed_configs(self._serve.state())

    def _hopeless(self, state: ServeState) -> list[str]:
        """Returns the applications that have failed with the same code and arguments."""
        configs = deployed_configs(state)
        return [
            name
            for name, asked in self._asked.items()
            if name in configs
            and state.applications[name].status == FAILED
            and not any(each.cost is Cost.RESTART for each in _differences(name, configs[name], asked))
        ]

    def _withdraw(self, names: list[str]) -> None:
        """Deletes these applications. Returns when they have gone. Raises: InstanceError: they do not go."""
        if not names:
            return
        self._deploy_only({name: config for name, config in self._deployed().items() if name not in names})
        if not wait_until(lambda: not self._serve.state().applications.keys() & set(names), END_TIMEOUT_S):
            raise InstanceError(
                f"Serve does not delete {', '.join(names)}, which could not be deployed before"
            )

    def _deploy_only(self, applications: Mapping[str, Any]) -> None:
        if applications:
            self._serve.deploy({**self._config, "applications": list(applications.values())})
        else:
            self._serve.delete_all()


def deployed_configs(state: ServeState) -> dict[str, Any]:
    """Returns the submitted configs by the names of their applications. Others were deployed by programs."""
    return {name: each.config for name, each in state.applications.items() if each.config}


def report_changes(changes: Iterable[Change], report: Report) -> None:
    for change in changes:
        report(f"change: {change.text}")


def _differences(name: str, deployed: Any, asked: Any) -> list[Change]:
    return changes_between({name: deployed}, {name: asked})

"""Compares two Serve configs, and says in terms of settings what a deployment would change, and at what cost.

    args, import_path, runtime_env             the replicas of the application restart
    ray_actor_options of a deployment          the replicas of the deployment restart
    user_config, num_replicas, and so on       no replica restarts

A setting can be in several places of a Serve config. Its cost is that of all places together.
"""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from registry.records import Record
from serve_app.deployment_options import APPLICATION, INGRESS, base_model_application, model_server_name

Path = tuple[str, ...]
ABSENT = object()
"""The value of a setting that is not given, because it has its default."""
MAX_VALUE_CHARS = 60
MODELS = "models"
ORDER = "order"
BASE_MODEL_PREFIX = base_model_application("")
MODEL_SERVER_PREFIX = model_server_name("")
DEPLOYMENTS = "deployments"
USER_CONFIG = "user_config"
AUTOSCALING_CONFIG = "autoscaling_config"
POLICY = "policy"
IN_PLACE = frozenset(
    {
        *(USER_CONFIG, "num_replicas", "max_ongoing_requests", "max_queued_requests", AUTOSCALING_CONFIG),
        *("graceful_shutdown_wait_loop_s", "graceful_shutdown_timeout_s", "logging_config"),
        *("health_check_period_s", "health_check_timeout_s"),
    }
)
"""The options of a deployment that Serve changes without a restart of its replicas."""
CORE_PARTS = "Ingress, Catalog and Trainer"


class Cost(StrEnum):
    """The cost of a change for those who use the service."""

    NONE = "takes effect without a restart"
    RUN = "takes effect without a restart of replicas, and trainings continue in a new run"
    DOOR = "takes effect when Ray starts anew, because HAProxy has it from the environment of Ray"
    RESTART = "restart"
    ADDED = "is added"
    REMOVED = "is removed"
    IGNORED = "does not take effect: Serve keeps the address of its start"


class Change(Record):
    """One difference. `text` is for the operator; `parts` are the deployments that restart, end or begin.

    `base_model` is the id of a base model that is removed.
    """

    text: str
    cost: Cost
    parts: tuple[str, ...] = ()
    base_model: str | None = None

    @property
    def is_disruptive(self) -> bool:
        """True if it ends replicas that may be answering requests."""
        return self.cost in (Cost.RESTART, Cost.REMOVED)


class Place(NamedTuple):
    """A setting in one place of the Serve configs, with its two values and the part that restarts."""

    setting: str
    before: Any
    after: Any
    restarts: str | None


def changes_between(deployed: Mapping[str, Any], asked: Mapping[str, Any]) -> list[Change]:
    """Returns the changes of a deployment. Both arguments have the configs of applications by their names."""
    changes = [_addition(name) for name in asked if name not in deployed]
    changes += [_removal(name) for name in deployed if name not in asked]
    gone_or_new = {base_model_of(name) for name in deployed.keys() ^ asked.keys()} - {None}
    places: dict[str, list[Place]] = {}
    for name in asked:
        if name in deployed:
            for place in _places(name, deployed[name], asked[name]):
                if not any(place.setting.startswith(f"{MODELS}[{each}]") for each in gone_or_new):
                    places.setdefault(place.setting, []).append(place)
    return changes + [_change(each) for each in places.values()]


def address_changes(deployed: Mapping[str, Any], asked: Mapping[str, Any]) -> list[Change]:
    """Returns the changes of the address of the API. Serve reads it only when its first application comes."""
    return [
        Change(
            text=f"http.{name}: {_shown(deployed[name])} -> {_shown(asked[name])}: {Cost.IGNORED.value}",
            cost=Cost.IGNORED,
        )
        for name in ("host", "port")
        if deployed.get(name) is not None and name in asked and deployed[name] != asked[name]
    ]


def base_model_of(application: str) -> str | None:
    """Returns the id of the base model of an application; None: it is another application."""
    is_base_model = application.startswith(BASE_MODEL_PREFIX)
    return application.removeprefix(BASE_MODEL_PREFIX) if is_base_model else None


def part_name(application: str) -> str:
    """Returns the name of an application for an operator, who thinks of base models."""
    base_model = base_model_of(application)
    if base_model is not None:
        return f"base model {base_model}"
    return f"{APPLICATION} ({CORE_PARTS})" if application == APPLICATION else f"application {application}"


def repetition(name: str) -> Change:
    """Returns the change of an application that Serve could not deploy the last time."""
    part = part_name(name)
    text = f"{part}: could not be deployed before, and is deployed again"
    return Change(text=text, cost=Cost.ADDED, parts=(part,))


def _addition(name: str) -> Change:
    part = part_name(name)
    return Change(text=f"{part}: is added", cost=Cost.ADDED, parts=(part,))


def _removal(name: str) -> Change:
    part, base_model = part_name(name), base_model_of(name)
    models = "" if base_model is None else "; its private models answer 503 until it is back"
    text = f"{part}: is removed{models}"
    return Change(text=text, cost=Cost.REMOVED, parts=(part,), base_model=base_model)


def _change(places: list[Place]) -> Change:
    """Returns the change of one setting. A place that has both values says more than one without."""
    best = max(places, key=lambda place: (place.before is not ABSENT) + (place.after is not ABSENT))
    restarts = tuple(sorted({place.restarts for place in places if place.restarts is not None}))
    if restarts:
        cost, effect = Cost.RESTART, f"restarts the replicas of {', '.join(restarts)}"
    else:
        cost = _cost_in_place(best.setting)
        effect = cost.value
    text = f"{best.setting}: {_shown(best.before)} -> {_shown(best.after)}: {effect}"
    return Change(text=text, cost=cost, parts=restarts)


def _places(application: str, deployed: Any, asked: Any) -> Iterator[Place]:
    before, after = dict(_leaves(deployed)), dict(_leaves(asked))
    for path in dict.fromkeys([*before, *after]):
        old, new = before.get(path, ABSENT), after.get(path, ABSENT)
        is_implied = POLICY in path or (path[-2:] == (MODELS, ORDER) and _are_other_models(old, new))
        if old != new and not is_implied:
            # Serve counts the presence of this option, not its values, to the code of the application.
            is_turned = AUTOSCALING_CONFIG in path and ABSENT in (old, new)
            restarted = _whole(application) if is_turned else _restarted(application, path)
            yield Place(_setting(application, path), old, new, restarted)


def _are_other_models(old: Any, new: Any) -> bool:
    """Returns True if models were added or removed, so that their order says nothing."""
    return old is ABSENT or new is ABSENT or set(old) != set(new)


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yields the values of nested objects with their paths. Entries of lists go by their names or ids."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, (*path, str(name)))
    elif isinstance(value, list) and path[-1:] in ((MODELS,), (DEPLOYMENTS,)):
        key = "id" if path[-1] == MODELS else "name"
        for each in value:
            yield from _leaves({k: v for k, v in each.items() if k != key}, (*path, each[key]))
        if path[-1] == MODELS:
            yield (*path, ORDER), [each[key] for each in value]
    else:
        yield path, value


def _whole(application: str) -> str:
    """Returns the part whose replicas restart if Serve builds the application again."""
    return CORE_PARTS if application == APPLICATION else part_name(application)


def _restarted(application: str, path: Path) -> str | None:
    """Returns the part whose replicas restart when the value at this path changes; None: nothing restarts."""
    if path[0] == "route_prefix":
        return None
    if path[0] != DEPLOYMENTS:
        return _whole(application)
    if path[2] in IN_PLACE:
        return None
    return path[1] if application == APPLICATION else part_name(application)


def _setting(application: str, path: Path) -> str:
    """Returns the name of a setting as docs/operations.md has it, or else the path in the Serve config."""
    if path[0] == "args":
        return _name_in_document(application, path[1:])
    if path[0] != DEPLOYMENTS:
        return ".".join((application, *path))
    deployment, option = path[1], path[2:]
    if option[0] == USER_CONFIG:
        return _name_in_document(application, option[1:])
    if option[0] == AUTOSCALING_CONFIG:
        option = ("autoscaling", *option[1:])
    elif deployment == INGRESS:
        option = option[-1:]
    if deployment == INGRESS:
        return f"ingress.{'.'.join(option)}"
    if deployment.startswith(MODEL_SERVER_PREFIX):
        return f"models[{deployment.removeprefix(MODEL_SERVER_PREFIX)}].serving.{'.'.join(option)}"
    return ".".join((deployment, *option))


def _name_in_document(application: str, path: Path) -> str:
    if not path:
        return application
    if path[0] == "base_model":
        return ".".join((f"{MODELS}[{base_model_of(application)}]", *path[1:]))
    if path[0] == MODELS and path[1:] == (ORDER,):
        return f"the order of {MODELS}"
    if path[0] == MODELS:
        return ".".join((f"{MODELS}[{path[1]}]", *path[2:]))
    return ".".join(path)


def _cost_in_place(setting: str) -> Cost:
    if setting == "ingress.max_request_bytes":
        return Cost.DOOR
    return Cost.RUN if setting.startswith(f"{MODELS}[") and "].training." in setting else Cost.NONE


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "the default"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if isinstance(value, str) and value else json.dumps(value)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}..."

"""Tells which replicas and training workers wait for resources that no node of Ray has free.

    a placement group that is pending  ->  what it needs, what is free  ->  `1 GPU (0 of 4 free)`

Ray lets such a placement group wait for ever, and it tells nobody. Serve's own message comes after 30 s.
Serve names the groups of its replicas, and `training.worker.run_mark` names those of training runs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from training.runs import groups_of

WAITS_FOR = "it waits for"
"""The words between a base model and the resources that its replica waits for, in the answer of `/readyz`."""

Bundle = Mapping[str, float]
"""Amounts of Ray's resources that one node has to have."""


@dataclass(frozen=True)
class PendingGroup:
    """A placement group that Ray could not place yet."""

    name: str
    bundles: Sequence[Bundle]

    def is_of_replica(self, deployment: str) -> bool:
        return self.name.startswith("SERVE_REPLICA::") and f"#{deployment}#" in self.name

    def is_of_run(self, application: str, base_model: str) -> bool:
        return self.name.startswith(groups_of(application, base_model))


class Cluster(Protocol):
    """The parts of Ray's state that are used here."""

    def pending_groups(self) -> Sequence[PendingGroup]: ...

    def free(self) -> Bundle: ...

    def total(self) -> Bundle: ...


class RayCluster:
    """The Ray of this process. Each call asks Ray's control store."""

    def pending_groups(self) -> list[PendingGroup]:
        from ray.util import placement_group_table

        return [
            PendingGroup(group["name"], list(group["bundles"].values()))
            for group in placement_group_table().values()
            if group["state"] == "PENDING"
        ]

    def free(self) -> Bundle:
        import ray

        return ray.available_resources()

    def total(self) -> Bundle:
        import ray

        return ray.cluster_resources()


class ResourceWaits:
    """The waits for resources. Calls block for some milliseconds."""

    def __init__(self, cluster: Cluster | None = None) -> None:
        self._cluster = cluster or RayCluster()

    def of_replicas(self, deployments: Iterable[str]) -> dict[str, str]:
        """Returns what a replica of each deployment waits for. Deployments without waits are left out."""
        groups = self._cluster.pending_groups()
        waiting = {
            deployment: [group for group in groups if group.is_of_replica(deployment)]
            for deployment in deployments
        }
        return {deployment: self._described(found[0]) for deployment, found in waiting.items() if found}

    def of_run(self, application: str, base_model: str) -> str | None:
        """Returns what the workers of a training run wait for, or None if they do not wait."""
        groups = self._cluster.pending_groups()
        waiting = [group for group in groups if group.is_of_run(application, base_model)]
        return self._described(waiting[0]) if waiting else None

    def _described(self, group: PendingGroup) -> str:
        needed = total_of(group.bundles)
        free, total = self._cluster.free(), self._cluster.total()
        lacking = [
            f"{amount:g} {kind} ({free.get(kind, 0):g} of {total.get(kind, 0):g} free)"
            for kind, amount in needed.items()
            if amount > free.get(kind, 0)
        ]
        if lacking:
            return " and ".join(lacking)
        return f"{amounts(needed)} on one node"


def total_of(bundles: Iterable[Bundle]) -> Bundle:
    """Returns the amounts of all bundles together, without those that are 0."""
    total: Counter[str] = Counter()
    for bundle in bundles:
        total.update(_present(bundle))
    return total


def amounts(bundle: Bundle) -> str:
    """Returns a text such as `2 CPU and 1 GPU`."""
    return " and ".join(f"{amount:g} {kind}" for kind, amount in bundle.items())


def _present(bundle: Bundle) -> dict[str, float]:
    return {kind: amount for kind, amount in bundle.items() if amount > 0}

"""Tells which replicas and training workers wait for resources that no node of Ray has free.

    a placement group that is pending  ->  what it needs, what is free  ->  `1 GPU (0 of 4 free)`

Ray lets such a placement group wait for ever, and it tells nobody. Serve's own message comes after 30 s.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

WAITS_FOR = "it waits for"
"""The words between a base model and the resources that its replica waits for, in the answer of `/readyz`."""

Bundle = Mapping[str, float]
"""Amounts of Ray's resources that one node has to have."""


@dataclass(frozen=True)
class PendingGroup:
    """A placement group that Ray could not place yet. Serve names the groups of its replicas."""

    name: str
    bundles: Sequence[Bundle]


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

    def of_replica(self, deployment: str) -> str | None:
        """Returns what a replica of this deployment waits for, or None if none waits."""
        groups = self._cluster.pending_groups()
        waiting = (group for group in groups if f"#{deployment}#" in group.name)
        return self._described(next(waiting, None))

    def of_workers(self, num_workers: int, bundle: Bundle) -> str | None:
        """Returns what a group of training workers, each with this bundle, waits for, or None.

        Ray Train does not name its groups, so they are known by what they ask for.
        """
        asked = [_present(bundle)] * num_workers
        groups = self._cluster.pending_groups()
        waiting = (group for group in groups if [_present(each) for each in group.bundles] == asked)
        return self._described(next(waiting, None))

    def _described(self, group: PendingGroup | None) -> str | None:
        if group is None:
            return None
        needed: Counter[str] = Counter()
        for bundle in group.bundles:
            needed.update(_present(bundle))
        free, total = self._cluster.free(), self._cluster.total()
        lacking = [
            f"{amount:g} {kind} ({free.get(kind, 0):g} of {total.get(kind, 0):g} free)"
            for kind, amount in needed.items()
            if amount > free.get(kind, 0)
        ]
        if lacking:
            return " and ".join(lacking)
        return " and ".join(f"{amount:g} {kind}" for kind, amount in needed.items()) + " on one node"


def _present(bundle: Bundle) -> dict[str, float]:
    return {kind: amount for kind, amount in bundle.items() if amount > 0}

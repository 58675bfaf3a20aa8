"""The descriptions of what waits for resources. The test is the cluster."""

from dataclasses import dataclass, field

import pytest

from serve_app.deployment_options import APPLICATION, model_server_name
from serve_app.resource_waits import Bundle, PendingGroup, ResourceWaits
from training.runs import groups_of

REPLICA = f"SERVE_REPLICA::{APPLICATION}#{model_server_name('one')}#abc"


@dataclass
class FakeCluster:
    groups: list[PendingGroup]
    free_amounts: Bundle = field(default_factory=dict)
    total_amounts: Bundle = field(default_factory=lambda: {"CPU": 16, "GPU": 4})
    error: Exception | None = None

    def pending_groups(self) -> list[PendingGroup]:
        if self.error is not None:
            raise self.error
        return self.groups

    def free(self) -> Bundle:
        return self.free_amounts

    def total(self) -> Bundle:
        return self.total_amounts


@pytest.mark.parametrize(
    ("bundle", "free", "wait"),
    [
        ({"CPU": 2, "GPU": 1}, {"CPU": 3}, "1 GPU (0 of 4 free)"),
        ({"CPU": 2, "GPU": 0.25}, {"CPU": 3, "GPU": 0.2}, "0.25 GPU (0.2 of 4 free)"),
        ({"CPU": 2, "GPU": 1}, {"CPU": 1}, "2 CPU (1 of 16 free) and 1 GPU (0 of 4 free)"),
        ({"accelerator_type:H100": 0.001}, {}, "0.001 accelerator_type:H100 (0 of 0 free)"),
        ({"CPU": 2, "GPU": 2}, {"CPU": 3, "GPU": 2}, "2 CPU and 2 GPU on one node"),
        ({"CPU": 2, "GPU": 0}, {"GPU": 1}, "2 CPU (0 of 16 free)"),
    ],
)
def test_a_replica_that_no_node_has_place_for(bundle: Bundle, free: Bundle, wait: str) -> None:
    waits = ResourceWaits(FakeCluster([PendingGroup("", [bundle]), PendingGroup(REPLICA, [bundle])], free))
    one, on = model_server_name("one"), model_server_name("on")
    assert waits.of_replicas([one, on]) == {one: wait}


def test_training_workers_are_known_by_the_name_of_their_group() -> None:
    bundle = {"CPU": 1.0, "GPU": 1.0}
    group = PendingGroup(f"{groups_of(APPLICATION, 'one')}12ab", [bundle, bundle])
    waits = ResourceWaits(FakeCluster([PendingGroup("", [bundle]), group], {"CPU": 16, "GPU": 1}))
    assert waits.of_run(APPLICATION, "one") == "2 GPU (1 of 4 free)"
    assert waits.of_run(APPLICATION, "on") is None
    assert waits.of_run("another", "one") is None
    assert waits.of_replicas(["one"]) == {}


def test_nothing_waits() -> None:
    waits = ResourceWaits(FakeCluster([]))
    assert waits.of_replicas([model_server_name("one")]) == {}
    assert waits.of_run(APPLICATION, "one") is None

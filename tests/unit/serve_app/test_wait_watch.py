"""The ages of waits for resources, as the gauge gets them. The test is the cluster and the clock."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from serve_app.deployment_options import APPLICATION, model_server_name
from serve_app.resource_waits import Bundle, PendingGroup
from serve_app.wait_watch import Part, WaitWatch
from training.runs import groups_of

REPLICA = PendingGroup(f"SERVE_REPLICA::{APPLICATION}#{model_server_name('one')}#abc", [{"GPU": 1}])
RUN = PendingGroup(f"{groups_of(APPLICATION, 'one')}12ab", [{"GPU": 1}])

Parts = dict[Part, Callable[[PendingGroup], bool]]


@dataclass
class Machine:
    """A cluster, a clock and a gauge."""

    groups: list[PendingGroup] = field(default_factory=list)
    now_s: float = 1000.0
    gauge: dict[Part, float] = field(default_factory=dict)

    def pending_groups(self) -> list[PendingGroup]:
        return self.groups

    def free(self) -> Bundle:
        return {}

    def total(self) -> Bundle:
        return {}

    def report(self, part: Part, wait_s: float) -> None:
        self.gauge[part] = wait_s

    def clock(self) -> float:
        return self.now_s


def watch(machine: Machine) -> WaitWatch:
    parts = parts_of_one()
    return WaitWatch(machine, lambda: parts, machine.report, machine.clock)


def parts_of_one() -> Parts:
    return {
        ("one", "replica"): partial(PendingGroup.is_of_replica, deployment=model_server_name("one")),
        ("one", "training"): partial(PendingGroup.is_of_run, application=APPLICATION, base_model="one"),
    }


def test_gauge_is_0_before_anything_waits() -> None:
    machine = Machine()
    watch(machine).look()
    assert machine.gauge == {("one", "replica"): 0, ("one", "training"): 0}


def test_wait_grows_until_it_ends_and_a_later_one_begins_anew() -> None:
    machine = Machine()
    waits = watch(machine)
    seen = []
    for groups in ([RUN], [RUN, REPLICA], [RUN, REPLICA], [REPLICA], [RUN, REPLICA]):
        machine.groups = groups
        waits.look()
        seen.append((machine.gauge["one", "replica"], machine.gauge["one", "training"]))
        machine.now_s += 5
    assert seen == [(0, 0), (0, 5), (5, 10), (10, 0), (15, 0)]


def test_wait_of_a_base_model_that_comes_back_begins_anew() -> None:
    machine = Machine(groups=[REPLICA])
    parts = parts_of_one()
    waits = WaitWatch(machine, lambda: parts, machine.report, machine.clock)
    waits.look()
    parts = {}
    waits.look()
    machine.now_s += 3600
    parts = parts_of_one()
    waits.look()
    assert machine.gauge["one", "replica"] == 0

"""The command `tiger release`, with which an operator lets a superseded cluster take over again."""

from registry.leadership import ROLES
from registry.leadership import release as release_leadership
from registry.store import ObjectStore
from serve_app.chosen_instance import DEFAULT_HOME, FAULTS, Config, Home, failed, open_store
from serve_app.terminal import Rows


def release(home: Home = DEFAULT_HOME, config: Config = None) -> None:
    """Let a cluster that another one has superseded take over the bucket again.

    First stop every cluster that must not take over. A superseded cluster that still runs takes over within a
    minute.
    """
    try:
        _release(open_store(home, config))
    except FAULTS as error:
        raise failed(error) from error


def _release(store: ObjectStore) -> None:
    rows = Rows("role", "leader until now", "since", "epoch")
    for role in ROLES:
        leader = release_leadership(store, role)
        if leader is None:
            rows.add(role, "-", "-", "-")
        else:
            rows.add(role, leader.cluster, f"{leader.since:%Y-%m-%d %H:%M}", str(leader.epoch))
    rows.show()

"""The output and the effect of `tiger release`."""

import pytest

from registry.leadership import ROLES, Leadership
from registry.store import ObjectStore
from tests.support.commands import tiger

pytestmark = pytest.mark.usefixtures("own_home")


def taken(store: ObjectStore, role: str, cluster: str) -> Leadership:
    leadership = Leadership(store, role, cluster)
    leadership.take()
    return leadership


def test_release_shows_the_leaders_and_lets_a_superseded_cluster_lead(
    cluster: ObjectStore, store: ObjectStore
) -> None:
    for name in ("old", "new"):
        for role in ROLES:
            taken(store, role, name)
    assert taken(store, ROLES[0], "old").is_superseded
    result = tiger("release")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [row[:2] for row in rows] == [[role, "new"] for role in ROLES]
    assert not any(taken(store, role, "old").is_superseded for role in ROLES)


def test_release_without_a_leader_says_so(cluster: ObjectStore, store: ObjectStore) -> None:
    result = tiger("release")
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [[role, "-"] for role in ROLES]


def test_release_fails_with_a_message_if_storage_is_away(
    cluster: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIGER_STORAGE__ENDPOINT_URL", "http://127.0.0.1:9")
    result = tiger("release")
    assert result.exit_code == 1 and "storage cannot be reached" in result.stderr

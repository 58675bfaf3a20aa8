"""The bucket that a command opens: a bucket of another release is refused, and stays as it is."""

import pytest

from registry.keys import ApiKeys
from registry.layout import LAYOUT_KEY, UPGRADES, BucketLayout
from registry.store import ObjectStore
from tests.support.commands import tiger

pytestmark = pytest.mark.usefixtures("own_home")

COMMANDS = [
    ("keys", "create", "alice"),
    ("keys", "list"),
    ("keys", "revoke", "0123456789ab"),
    ("audit",),
    ("release",),
    ("demo",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("layout", "told"), [(b'{"version": 0}', "when it starts"), (b'{"version": 99}', "a later one")]
)
def test_command_that_starts_nothing_leaves_the_bucket_of_another_release(
    cluster: ObjectStore, command: tuple[str, ...], layout: bytes, told: str
) -> None:
    cluster.put(LAYOUT_KEY, layout)
    result = tiger(*command)
    assert result.exit_code == 1 and result.stdout == ""
    assert told in result.stderr
    assert cluster.list("") == [LAYOUT_KEY] and cluster.get(LAYOUT_KEY).body == layout


def test_key_can_be_made_before_the_service_starts_for_the_first_time(cluster: ObjectStore) -> None:
    cluster.delete(LAYOUT_KEY)
    assert tiger("keys", "create", "alice").exit_code == 0
    assert BucketLayout(cluster).read().layout.version == len(UPGRADES)
    assert [key.record.user for key in ApiKeys(cluster).list()] == ["alice"]

"""Two Catalogs on one bucket, of two clusters: the later one changes, and the former one only reads."""

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from registry.errors import InvalidApiKey, ModelNotFound, Superseded
from registry.keys import ApiKeys, hash_key
from registry.leadership import CATALOG, release
from registry.revisions import Revisions
from registry.store import ObjectStore
from serve_app.catalog.cache_leases import Forgotten
from serve_app.catalog.catalog import Catalog
from serve_app.settings import Settings
from serve_app.wire.models import ChangeModel
from tests.support.catalogs import USER, create, names, trained, write_adapter

NEVER: datetime | None = None


def catalog_of(settings: Settings, cluster: str) -> Catalog:
    return Catalog(settings, cluster=lambda: cluster)


async def test_former_catalog_writes_nothing_into_a_list_that_the_later_one_knows(settings: Settings) -> None:
    former = catalog_of(settings, "old")
    mine = await create(former)
    later = catalog_of(settings, "new")
    assert await names(later) == ["Mine"]
    with pytest.raises(Superseded):
        await create(former, "Late")
    await create(later, "Another")
    for change in (
        former.change(USER, "mine", ChangeModel(name="Yours")),
        former.activate(USER, "mine", 0),
        former.publish(USER, mine.uid, 1),
        former.delete(USER, mine.uid),
        create(former, "Late"),
    ):
        with pytest.raises(Superseded):
            await change
    assert await names(later) == await names(former) == ["Mine", "Another"]
    assert await names(catalog_of(settings, "new")) == ["Mine", "Another"]


async def test_user_without_models_is_protected_too(settings: Settings) -> None:
    former, later = catalog_of(settings, "old"), catalog_of(settings, "new")
    assert await names(later) == []
    with pytest.raises(Superseded):
        await create(former)
    assert await names(later) == await names(former) == []


async def test_change_before_the_later_catalog_looks_is_not_lost(settings: Settings) -> None:
    former, later = catalog_of(settings, "old"), catalog_of(settings, "new")
    await create(former)
    await create(later, "Another")
    assert await names(later) == ["Mine", "Another"]


async def test_names_stay_unique_with_two_catalogs_at_once(settings: Settings) -> None:
    catalogs = [catalog_of(settings, "old"), catalog_of(settings, "new")]
    made = await asyncio.gather(
        *(create(catalogs[number % 2], f"Model {number // 2}") for number in range(12)),
        return_exceptions=True,
    )
    answered = sorted(model.name for model in made if not isinstance(model, BaseException))
    assert answered == sorted(await names(catalogs[1]))
    assert len(set(answered)) == len(answered) >= 1


async def test_former_catalog_lets_nobody_keep_models(settings: Settings) -> None:
    former = Catalog(settings, lease_term_s=0.01, cluster=lambda: "old")
    await create(former)
    await former.renew("replica", Forgotten())
    later = catalog_of(settings, "new")
    await create(later, "Another")
    with pytest.raises(Superseded):
        await former.change(USER, "mine", ChangeModel(name="Yours"))
    with pytest.raises(Superseded):
        await former.renew("replica", Forgotten())
    read = await former.models(USER, "replica")
    assert read.session is None and b"Another" in read.json
    with pytest.raises(Superseded):
        await former.check_leadership()
    await former.check_health()
    await former.check_storage()


async def test_later_sweep_leaves_no_model_without_bytes(
    settings: Settings, revisions: Revisions, tmp_path: Path, store: ObjectStore
) -> None:
    """The former Catalog has copied an adapter; the later one starts before the copy is in the list."""
    former = catalog_of(settings, "old")
    parent = await trained(former, revisions, tmp_path / "made")
    store.put("leftovers/half-made", USER.encode())
    revisions.copy(parent.uid, 1, "half-made")
    later = catalog_of(settings, "new")
    assert store.list("models/half-made/") == store.list("leftovers/") == []
    with pytest.raises(Superseded):
        await create(former, "Child", "mine")
    assert await names(later) == ["Mine"]
    # The bytes of the copy that failed wait for the next sweep.
    catalog_of(settings, "new")
    assert {key.split("/")[1] for key in store.list("models/")} == {parent.uid}


async def test_superseded_catalog_sweeps_nothing(
    settings: Settings, revisions: Revisions, tmp_path: Path, store: ObjectStore
) -> None:
    catalog_of(settings, "old")
    catalog_of(settings, "new")
    store.put("leftovers/being-made", USER.encode())
    write_adapter(tmp_path / "made", b"1")
    revisions.publish(
        "being-made", tmp_path / "made", revision=0, parent_revision=None, job=None, base_model="base",
        metrics={},
    )  # fmt: skip
    catalog_of(settings, "old")
    assert store.list("leftovers/") == ["leftovers/being-made"]
    assert len(store.list("models/being-made/")) == 3


async def test_keys_are_checked_and_revoked_everywhere_but_made_by_the_leader(
    settings: Settings, store: ObjectStore
) -> None:
    former, later = catalog_of(settings, "old"), catalog_of(settings, "new")
    keys = ApiKeys(store)
    mine, other = (hash_key(keys.create(USER, name)) for name in ("mine", "other"))
    await later.create_key(USER, "third", NEVER, "3" * 64, mine)
    other_id = (await former.authenticate(other)).id
    await create(later)
    with pytest.raises(Superseded):
        await create(former, "Late")
    with pytest.raises(Superseded):
        await former.create_key(USER, "late", NEVER, "4" * 64, mine)
    await former.revoke_key(USER, other_id, mine)
    with pytest.raises(InvalidApiKey):
        await later.authenticate(other)


async def test_catalog_of_a_released_cluster_asks_to_be_restarted(settings: Settings) -> None:
    old, new = catalog_of(settings, "old"), catalog_of(settings, "new")
    await create(new)
    with pytest.raises(Superseded):
        await create(old)
    await old.check_health()
    release(ObjectStore(settings.storage), CATALOG)
    with pytest.raises(Superseded):
        await old.check_health()
    restarted = catalog_of(settings, "old")
    await create(restarted, "Another")
    assert await names(restarted) == ["Mine", "Another"]
    with pytest.raises(Superseded):
        await create(new, "Late")
    with pytest.raises(ModelNotFound):
        await new.private_model(USER, "late")

"""Revisions, deletions and restarts of the Catalog, in some tests with a write that fails."""

from pathlib import Path

import pytest

from registry.errors import (
    ModelNotFound,
    QuotaExceeded,
    RevisionNotFound,
    Unavailable,
)
from registry.revisions import Revisions
from registry.store import ObjectStore
from serve_app.catalog.catalog import Catalog
from serve_app.catalog.references import Resolver
from serve_app.settings import Settings
from tests.support.catalogs import USER, create, names, trained
from tests.support.proxy import Proxy


async def test_publish_makes_the_revision_current(catalog: Catalog) -> None:
    model = await create(catalog)
    published = await catalog.publish(USER, model.uid, 1)
    assert (published.revision, published.latest_revision) == (1, 1)
    assert published.last_modified >= model.last_modified


async def test_publish_again_changes_nothing(catalog: Catalog) -> None:
    model = await create(catalog)
    published = await catalog.publish(USER, model.uid, 1)
    assert await catalog.publish(USER, model.uid, 1) == published


async def test_publish_never_goes_back_and_undoes_no_rollback(catalog: Catalog) -> None:
    model = await create(catalog)
    await catalog.publish(USER, model.uid, 2)
    assert (await catalog.publish(USER, model.uid, 1)).revision == 2
    await catalog.activate(USER, "mine", 1)
    assert (await catalog.publish(USER, model.uid, 2)).revision == 1


async def test_kept_revision_is_answered_and_does_not_become_the_current_one(
    catalog: Catalog, settings: Settings
) -> None:
    model = await create(catalog)
    for _ in range(2):
        kept = await catalog.keep(USER, model.uid, 1)
        assert (kept.revision, kept.latest_revision) == (0, 1)
    pinned = Resolver(settings).resolve(await catalog.private_models(USER), "mine@1")
    assert pinned.revision == 1
    published = await catalog.publish(USER, model.uid, 2)
    assert (published.revision, published.latest_revision) == (2, 2)
    assert await catalog.keep(USER, model.uid, 1) == published
    assert (await catalog.activate(USER, "mine", 1)).revision == 1


async def test_activation_keeps_the_counter(catalog: Catalog) -> None:
    model = await create(catalog)
    await catalog.publish(USER, model.uid, 1)
    await catalog.publish(USER, model.uid, 2)
    rolled_back = await catalog.activate(USER, "mine", 0)
    assert (rolled_back.revision, rolled_back.latest_revision) == (0, 2)
    assert (await catalog.activate(USER, "mine", 2)).revision == 2
    with pytest.raises(RevisionNotFound):
        await catalog.activate(USER, "mine", 3)


async def test_revision_is_listed_once_the_list_of_models_says_so(
    catalog: Catalog, revisions: Revisions, tmp_path: Path
) -> None:
    model = await trained(catalog, revisions, tmp_path / "made", times=2)
    revisions.publish(
        model.uid,
        tmp_path / "made",
        revision=3,
        parent_revision=2,
        job="job-3",
        base_model="base",
        metrics={},
    )
    assert [manifest.revision for manifest in await catalog.revisions(USER, "mine")] == [2, 1]


async def test_delete_removes_the_bytes(
    catalog: Catalog, revisions: Revisions, tmp_path: Path, store: ObjectStore
) -> None:
    model = await trained(catalog, revisions, tmp_path / "made", times=2)
    await catalog.delete(USER, model.uid)
    assert store.list("models/") == store.list("leftovers/") == []
    with pytest.raises(ModelNotFound):
        await catalog.publish(USER, model.uid, 3)


async def test_restart_reads_everything_back(
    settings: Settings, catalog: Catalog, revisions: Revisions, tmp_path: Path
) -> None:
    await trained(catalog, revisions, tmp_path / "made", times=2)
    await catalog.activate(USER, "mine", 1)
    await create(catalog, "Child", "mine", temperature=0)
    await create(catalog, "Theirs", user="bob")
    after = Catalog(settings)
    for user in (USER, "bob"):
        assert await after.private_models(user) == await catalog.private_models(user)


@pytest.mark.parametrize("goes_dark", ["before", "after"])
async def test_crash_while_a_model_is_deleted_leaves_it_whole_or_gone(
    settings: Settings, behind: Catalog, proxy: Proxy, revisions: Revisions, tmp_path: Path,
    store: ObjectStore, goes_dark: str,
) -> None:  # fmt: skip
    model = await trained(behind, revisions, tmp_path / "made")
    proxy.goes_dark = goes_dark
    with pytest.raises(Unavailable):
        await behind.delete(USER, model.uid)
    num_objects = len(store.list("models/"))
    assert num_objects == 3
    after = Catalog(settings)
    is_there = goes_dark == "before"
    assert await names(after) == ["Mine"] * is_there
    assert len(store.list("models/")) == num_objects * is_there
    assert store.list("leftovers/") == []


async def test_changed_settings_hold_and_models_stay(catalog: Catalog, settings: Settings) -> None:
    model = await create(catalog, "First", parent="other-1")
    limits = settings.limits.model_copy(update={"max_models_per_user": 1, "max_keys_per_user": 1})
    catalog.apply(settings.model_copy(update={"models": settings.models[:1], "limits": limits}))
    with pytest.raises(QuotaExceeded):
        await create(catalog, "Second")
    with pytest.raises(ModelNotFound):
        await create(catalog, "Third", parent="other-1")
    assert await catalog.private_models(USER) == (model,)
    await catalog.delete(USER, model.uid)
    assert await names(catalog) == []
    await create(catalog, "Fourth")

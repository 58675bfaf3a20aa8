"""New models and copies of models on a real object store, also behind a proxy that fails in a write."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from registry.errors import (
    InvalidRequest,
    QuotaExceeded,
    Unavailable,
)
from registry.records import Defaults, ModelRecord
from registry.revisions import Revisions
from registry.store import ObjectStore
from serve_app.catalog.catalog import Catalog
from serve_app.settings import Settings
from tests.support.catalogs import USER, create, resolve, trained
from tests.support.proxy import Proxy


async def test_models_of_one_user_are_limited(settings: Settings, catalog: Catalog) -> None:
    for number in range(settings.limits.max_models_per_user):
        await create(catalog, f"Model {number}")
    with pytest.raises(QuotaExceeded):
        await create(catalog)
    await create(catalog, user="bob")


async def test_defaults_come_from_the_parent(catalog: Catalog) -> None:
    first = await create(catalog, temperature=0)
    assert (first.defaults, first.rank, first.alpha, first.dropout) == (
        Defaults(beta=0.5, temperature=0),
        8,
        16,
        0,
    )
    second = await create(catalog, "Child", "mine", top_p=0.5)
    assert second.defaults == Defaults(beta=0.5, temperature=0, top_p=0.5)
    assert (second.parent_model, second.base_model) == ("Mine", "base")


async def test_alpha_is_twice_the_rank_that_was_asked_for(catalog: Catalog) -> None:
    model = await create(catalog, rank=4)
    assert (model.rank, model.alpha) == (4, 8)
    assert (await create(catalog, "Two", rank=4, alpha=1)).alpha == 1


async def test_rank_has_the_maximum_of_the_base_model(catalog: Catalog) -> None:
    assert (await create(catalog, rank=16)).rank == 16
    with pytest.raises(InvalidRequest) as raised:
        await create(catalog, "Big", rank=17)
    assert raised.value.param == "rank"


async def test_copy_has_the_rank_and_alpha_of_its_parent(catalog: Catalog) -> None:
    await create(catalog, rank=4, alpha=3)
    child = await create(catalog, "Child", "mine", rank=4, alpha=3)
    assert (child.rank, child.alpha) == (4, 3)
    wrongs: tuple[dict[str, Any], ...] = ({"rank": 8}, {"alpha": 8})
    for wrong in wrongs:
        with pytest.raises(InvalidRequest) as raised:
            await create(catalog, "Wrong", "mine", **wrong)
        assert raised.value.param == next(iter(wrong))


async def test_copy_of_an_untrained_model_has_no_weights(catalog: Catalog, store: ObjectStore) -> None:
    await create(catalog)
    child = await create(catalog, "Child", "mine")
    assert not child.has_initial_adapter
    assert store.list("models/") == []


async def test_copy_of_a_trained_model_has_its_weights_and_outlives_it(
    catalog: Catalog, revisions: Revisions, tmp_path: Path, store: ObjectStore
) -> None:
    parent = await trained(catalog, revisions, tmp_path / "made", times=2)
    newest, older = await create(catalog, "Newest", "Mine"), await create(catalog, "Older", "Mine@1")
    await catalog.delete(USER, parent.uid)
    assert store.list(f"models/{parent.uid}/") == []
    for child, weights in ((newest, b"2"), (older, b"1")):
        resolved = await resolve(catalog, child.id)
        assert (resolved.adapter_id, resolved.revision) == (f"{child.uid}@0", 0)
        revisions.fetch(child.uid, 0, tmp_path / child.id)
        assert (tmp_path / child.id / "adapter_model.safetensors").read_bytes() == weights
    assert store.list("leftovers/") == []


async def test_copy_whose_name_is_taken_leaves_no_bytes(
    settings: Settings, catalog: Catalog, revisions: Revisions, tmp_path: Path, store: ObjectStore
) -> None:
    parent = await trained(catalog, revisions, tmp_path / "made")
    catalogs = [catalog, Catalog(settings)]
    answers = await asyncio.gather(
        *(create(catalogs[number % 2], "Child", "Mine") for number in range(6)), return_exceptions=True
    )
    (child,) = [answer for answer in answers if isinstance(answer, ModelRecord)]
    assert {key.split("/")[1] for key in store.list("models/")} == {parent.uid, child.uid}
    assert store.list("leftovers/") == []


@pytest.mark.parametrize("goes_dark", ["before", "after"])
async def test_crash_while_a_copy_is_made_leaves_no_bytes_of_nobody(
    settings: Settings, behind: Catalog, proxy: Proxy, revisions: Revisions, tmp_path: Path,
    store: ObjectStore, goes_dark: str,
) -> None:  # fmt: skip
    parent = await trained(behind, revisions, tmp_path / "made")
    proxy.goes_dark = goes_dark
    with pytest.raises(Unavailable):
        await create(behind, "Child", "Mine")
    assert len({key.split("/")[1] for key in store.list("models/")}) == 2
    after = Catalog(settings)
    children = [model.uid for model in await after.private_models(USER) if model.name == "Child"]
    assert len(children) == (goes_dark == "after")
    assert {key.split("/")[1] for key in store.list("models/")} == {parent.uid, *children}
    assert store.list("leftovers/") == []

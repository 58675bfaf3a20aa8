"""The lists of models when two Catalogs write at once, and when storage fails in the middle of a write."""

import asyncio

import pytest

from registry.errors import (
    Unavailable,
)
from serve_app.catalog.catalog import Catalog
from serve_app.settings import Settings
from tests.support.catalogs import USER, create, names, resolve
from tests.support.proxy import Proxy


async def test_models_are_listed_oldest_first(catalog: Catalog) -> None:
    for name in ("C", "A", "B"):
        await create(catalog, name)
    assert await names(catalog) == ["C", "A", "B"]


async def test_one_of_twenty_creations_at_once_wins(settings: Settings, catalog: Catalog) -> None:
    """Two Catalogs, as while one replica replaces another: only the bucket stands between them."""
    catalogs = [catalog, Catalog(settings)]
    answers = await asyncio.gather(
        *(create(catalogs[number % 2]) for number in range(20)), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["ModelRecord"] + ["NameTaken"] * 19
    assert await names(Catalog(settings)) == ["Mine"]


async def test_no_creation_is_lost_between_two_catalogs(settings: Settings, catalog: Catalog) -> None:
    catalogs = [catalog, Catalog(settings)]
    await asyncio.gather(*(create(catalogs[number % 2], f"Model {number}") for number in range(20)))
    assert set(await names(Catalog(settings))) == {f"Model {number}" for number in range(20)}


@pytest.mark.parametrize(("goes_dark", "expected"), [("before", []), ("after", ["Mine"])])
async def test_change_of_unknown_outcome_is_read_again(
    behind: Catalog, proxy: Proxy, goes_dark: str, expected: list[str]
) -> None:
    await behind.private_models(USER)
    proxy.goes_dark = goes_dark
    with pytest.raises(Unavailable):
        await create(behind)
    proxy.light()
    assert await names(behind) == expected


async def test_storage_away_leaves_what_is_known(behind: Catalog, proxy: Proxy) -> None:
    await create(behind)
    proxy.close()
    assert await names(behind) == ["Mine"]
    assert (await resolve(behind, "mine")).id == "mine"
    for call in (behind.private_models("bob"), behind.check_storage(), behind.authenticate("0" * 64)):
        with pytest.raises(Unavailable):
            await call

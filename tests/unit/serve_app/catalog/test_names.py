"""The names and ids of new and renamed models, on a real object store."""

import pytest

from registry.errors import (
    NameTaken,
)
from serve_app.catalog.catalog import Catalog
from serve_app.wire.models import ChangeModel
from tests.support.catalogs import USER, create


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MyCustomModel", "mycustommodel"),
        ("Mein Modell", "mein-modell"),
        ("a?b#c", "a-b-c"),
        ("...", "model"),
        ("\u4e16\u754c", "model"),
        ("v1.2_x", "v1.2_x"),
    ],
)
async def test_id_is_made_from_the_name(catalog: Catalog, name: str, expected: str) -> None:
    assert (await create(catalog, name)).id == expected


async def test_id_that_is_taken_gets_a_number(catalog: Catalog) -> None:
    ids = [(await create(catalog, name)).id for name in ("Mine!", "Mine?", "Mine#", "Other 1")]
    assert ids == ["mine", "mine-2", "mine-3", "other-1-2"]


async def test_name_of_a_lower_case_model_is_its_id(catalog: Catalog) -> None:
    assert (await create(catalog, "mine")).id == "mine"


@pytest.mark.parametrize("name", ["Mine", "mine", "Base", "base", "Other", "other-1"])
async def test_name_that_means_another_model_is_taken(catalog: Catalog, name: str) -> None:
    await create(catalog, "Mine")
    with pytest.raises(NameTaken):
        await create(catalog, name)
    await create(catalog, "Third")
    with pytest.raises(NameTaken):
        await catalog.change(USER, "Third", ChangeModel(name=name))


async def test_name_may_differ_in_case_only(catalog: Catalog) -> None:
    await create(catalog, "Mine")
    assert (await create(catalog, "MINE")).id == "mine-2"


async def test_users_may_have_models_of_one_name(catalog: Catalog) -> None:
    first, second = await create(catalog), await create(catalog, user="bob")
    assert first.id == second.id
    assert first.uid != second.uid


async def test_name_of_a_deleted_model_is_free_and_means_another(catalog: Catalog) -> None:
    first = await create(catalog)
    await catalog.delete(USER, first.uid)
    assert (await create(catalog)).uid != first.uid


async def test_renamed_model_keeps_its_id_and_frees_its_name(catalog: Catalog) -> None:
    first = await create(catalog, "Mine")
    renamed = await catalog.change(USER, "mine", ChangeModel(name="Yours"))
    assert (renamed.id, renamed.name, renamed.uid) == ("mine", "Yours", first.uid)
    assert (await create(catalog, "Mine")).id == "mine-2"


async def test_model_may_be_renamed_to_its_own_id(catalog: Catalog) -> None:
    await create(catalog, "Mine")
    assert (await catalog.change(USER, "Mine", ChangeModel(name="mine"))).name == "mine"

"""The models that references mean, and the changes that a reference does not allow."""

from pathlib import Path

import pytest

from registry.errors import (
    InvalidRequest,
    ModelNotFound,
    ModelReadOnly,
    RevisionNotFound,
    Unavailable,
)
from registry.revisions import Revisions
from registry.settings import StorageSettings
from serve_app.catalog.catalog import Catalog
from serve_app.catalog.references import Resolver
from serve_app.wire.models import ChangeModel
from tests.support.catalogs import USER, create, names, resolve, settings_of, trained


@pytest.mark.parametrize("ref", ["Mine", "mine"])
async def test_model_is_found_by_id_and_name(catalog: Catalog, ref: str) -> None:
    model = await create(catalog)
    resolved = await resolve(catalog, ref)
    assert (resolved.private, resolved.base.id, resolved.revision) == (model, "base", 0)


@pytest.mark.parametrize(("ref", "base_id"), [("other-1", "other-1"), ("Other", "other-1"), (None, "base")])
async def test_base_model_is_found_and_none_is_the_default(
    catalog: Catalog, ref: str | None, base_id: str
) -> None:
    resolved = await resolve(catalog, ref)
    assert (resolved.base.id, resolved.private, resolved.adapter_id) == (base_id, None, None)


async def test_number_behind_the_reference_pins_a_revision(
    catalog: Catalog, revisions: Revisions, tmp_path: Path
) -> None:
    model = await trained(catalog, revisions, tmp_path / "made", times=2)
    assert (await resolve(catalog, "mine")).adapter_id == f"{model.uid}@2"
    assert (await resolve(catalog, "Mine@1")).adapter_id == f"{model.uid}@1"
    assert (await resolve(catalog, "mine@0")).adapter_id is None
    for ref in ("mine@3", "mine@999999999", "base@0", "Base@1"):
        with pytest.raises(RevisionNotFound):
            await resolve(catalog, ref)


@pytest.mark.parametrize(
    "ref", ["", "@", "@1", "mine@", "mine@-1", "mine@x", "mine@1@1", "MINE", "../mine", "a\nb@1"]
)
async def test_reference_that_means_nothing_is_not_found(catalog: Catalog, ref: str) -> None:
    await create(catalog)
    with pytest.raises(ModelNotFound):
        await resolve(catalog, ref)


async def test_foreign_model_and_absent_one_give_the_same_error(catalog: Catalog) -> None:
    theirs = await create(catalog, "Theirs", user="bob")
    answers = []
    for ref in ("theirs", "nothing"):
        for call in (
            resolve(catalog, ref),
            resolve(catalog, f"{ref}@1"),
            catalog.change(USER, ref, ChangeModel(name="X")),
            catalog.activate(USER, ref, 0),
            catalog.revisions(USER, ref),
            create(catalog, parent=ref),
        ):
            with pytest.raises(ModelNotFound) as raised:
                await call
            answers.append(raised.value.args)
    assert answers[:6] == answers[6:]
    with pytest.raises(ModelNotFound):
        await catalog.delete(USER, theirs.uid)
    with pytest.raises(ModelNotFound):
        await catalog.publish(USER, theirs.uid, 1)
    assert await names(catalog, "bob") == ["Theirs"]


async def test_base_model_is_read_only(catalog: Catalog) -> None:
    for call in (
        catalog.change(USER, "base", ChangeModel(name="X")),
        catalog.activate(USER, "Base", 0),
        catalog.private_model(USER, "base"),
    ):
        with pytest.raises(ModelReadOnly):
            await call


async def test_change_of_a_pinned_revision_is_refused(catalog: Catalog) -> None:
    await create(catalog)
    with pytest.raises(InvalidRequest):
        await catalog.private_model(USER, "mine@0")


async def test_copy_of_a_base_model_that_was_removed_is_found_and_cannot_be_asked(catalog: Catalog) -> None:
    model = await create(catalog, parent="other-1")
    settings = settings_of(StorageSettings())
    resolver = Resolver(settings.model_copy(update={"models": settings.models[:1]}))
    resolved = resolver.resolve((model,), "mine")
    assert (resolved.private, resolved.id, resolved.adapter_id) == (model, "mine", None)
    with pytest.raises(Unavailable, match="base model other-1 is not deployed"):
        _ = resolved.base
    assert resolver.private_model((model,), "mine") == model
    with pytest.raises(ModelNotFound):
        resolver.resolve((model,), "other-1")
    resolver.settings = settings
    assert resolver.resolve((model,), "mine").base.id == "other-1"

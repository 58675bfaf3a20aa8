"""The Catalog on a real object store, in some tests behind a proxy that can fail in the middle of a write."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.errors import (
    InvalidRequest,
    ModelNotFound,
    ModelReadOnly,
    NameTaken,
    QuotaExceeded,
    RevisionNotFound,
    Unavailable,
)
from registry.records import Defaults, ModelRecord, utc_now
from registry.revisions import Revisions
from registry.settings import StorageSettings
from registry.store import ObjectStore
from serve_app.catalog.catalog import Catalog
from serve_app.instance.seaweedfs import ObjectServer
from serve_app.settings import BaseModelSettings, LimitSettings, Settings
from serve_app.wire.models import ChangeModel, CreateModel
from tests.support.proxy import Proxy

USER = "alice"


def base_model(base_id: str, name: str) -> BaseModelSettings:
    return BaseModelSettings(
        id=base_id, name=name, description="", last_modified=utc_now(), source="/nowhere",
        max_context_tokens=64, rank=8, max_rank=16, defaults=Defaults(beta=0.5),
    )  # fmt: skip


def settings_of(storage: StorageSettings) -> Settings:
    return Settings(
        storage=storage,
        default_model="base",
        models=(base_model("base", "Base"), base_model("other-1", "Other")),
        limits=LimitSettings(max_models_per_user=25),
    )


@pytest.fixture
def settings(storage_settings: StorageSettings) -> Settings:
    return settings_of(storage_settings)


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return Catalog(settings)


@pytest.fixture
def revisions(store: ObjectStore) -> Revisions:
    return Revisions(store)


async def create(
    catalog: Catalog, name: str = "Mine", parent: str = "base", user: str = USER, **more: Any
) -> ModelRecord:
    return await catalog.create(user, CreateModel(name=name, description="", parent_model=parent, **more))


def write_adapter(directory: Path, weights: bytes) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text("{}")
    (directory / "adapter_model.safetensors").write_bytes(weights)


async def trained(
    catalog: Catalog, revisions: Revisions, directory: Path, name: str = "Mine", times: int = 1
) -> ModelRecord:
    """A model with as many revisions, whose weights are their numbers."""
    model = await create(catalog, name)
    for revision in range(1, times + 1):
        write_adapter(directory, b"%d" % revision)
        revisions.publish(
            model.uid, directory, revision=revision, parent_revision=revision - 1, job=f"job-{revision}",
            base_model="base", metrics={},
        )  # fmt: skip
        model = await catalog.publish(USER, model.uid, revision)
    return model


async def names(catalog: Catalog, user: str = USER) -> list[str]:
    return [model.name for model in await catalog.private_models(user)]


# Names and ids


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


async def test_models_are_listed_oldest_first(catalog: Catalog) -> None:
    for name in ("C", "A", "B"):
        await create(catalog, name)
    assert await names(catalog) == ["C", "A", "B"]


async def test_models_of_one_user_are_limited(settings: Settings, catalog: Catalog) -> None:
    for number in range(settings.limits.max_models_per_user):
        await create(catalog, f"Model {number}")
    with pytest.raises(QuotaExceeded):
        await create(catalog)
    await create(catalog, user="bob")


# References


@pytest.mark.parametrize("ref", ["Mine", "mine"])
async def test_model_is_found_by_id_and_name(catalog: Catalog, ref: str) -> None:
    model = await create(catalog)
    resolved = await catalog.resolve(USER, ref)
    assert (resolved.private, resolved.base.id, resolved.revision) == (model, "base", 0)


@pytest.mark.parametrize(("ref", "base_id"), [("other-1", "other-1"), ("Other", "other-1"), (None, "base")])
async def test_base_model_is_found_and_none_is_the_default(
    catalog: Catalog, ref: str | None, base_id: str
) -> None:
    resolved = await catalog.resolve(USER, ref)
    assert (resolved.base.id, resolved.private, resolved.adapter_id) == (base_id, None, None)


async def test_number_behind_the_reference_pins_a_revision(
    catalog: Catalog, revisions: Revisions, tmp_path: Path
) -> None:
    model = await trained(catalog, revisions, tmp_path / "made", times=2)
    assert (await catalog.resolve(USER, "mine")).adapter_id == f"{model.uid}@2"
    assert (await catalog.resolve(USER, "Mine@1")).adapter_id == f"{model.uid}@1"
    assert (await catalog.resolve(USER, "mine@0")).adapter_id is None
    for ref in ("mine@3", "mine@999999999", "base@0", "Base@1"):
        with pytest.raises(RevisionNotFound):
            await catalog.resolve(USER, ref)


@pytest.mark.parametrize(
    "ref", ["", "@", "@1", "mine@", "mine@-1", "mine@x", "mine@1@1", "MINE", "../mine", "a\nb@1"]
)
async def test_reference_that_means_nothing_is_not_found(catalog: Catalog, ref: str) -> None:
    await create(catalog)
    with pytest.raises(ModelNotFound):
        await catalog.resolve(USER, ref)


async def test_foreign_model_and_absent_one_give_the_same_error(catalog: Catalog) -> None:
    theirs = await create(catalog, "Theirs", user="bob")
    answers = []
    for ref in ("theirs", "nothing"):
        for call in (
            catalog.resolve(USER, ref),
            catalog.resolve(USER, f"{ref}@1"),
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


# What a new model is


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
        resolved = await catalog.resolve(USER, child.id)
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


# Revisions


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


# Restarts and outages


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


@pytest.fixture
def proxy(object_server: ObjectServer) -> Iterator[Proxy]:
    proxy = Proxy(object_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def behind(proxy: Proxy, storage_settings: StorageSettings) -> Catalog:
    """A Catalog on the same bucket, whose storage can go away."""
    url = f"http://127.0.0.1:{proxy.port}"
    return Catalog(settings_of(storage_settings.model_copy(update={"endpoint_url": url})))


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
    assert (await behind.resolve(USER, "mine")).id == "mine"
    for call in (behind.private_models("bob"), behind.check_storage(), behind.authenticate("0" * 64)):
        with pytest.raises(Unavailable):
            await call


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

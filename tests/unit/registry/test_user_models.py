from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.user_models import Catalogues
from registry.errors import NameTaken, Unavailable
from registry.records import Defaults, ModelRecord, UserModels, generate_uid, utc_now
from registry.store import ObjectStore, WriteConflict


def model(name: str) -> ModelRecord:
    return ModelRecord(
        uid=generate_uid(),
        id=name,
        name=name,
        description="",
        base_model="base",
        parent_model="base",
        rank=8,
        alpha=16,
        dropout=0,
        defaults=Defaults(),
        created=utc_now(),
        last_modified=utc_now(),
    )


def added(models: UserModels, record: ModelRecord) -> UserModels:
    if any(record.name == other.name for other in models.models):
        raise NameTaken("this name is taken", "name")
    return UserModels(models=(*models.models, record))


@pytest.fixture
def catalogues(store: ObjectStore) -> Catalogues:
    return Catalogues(store)


def test_catalogue_is_empty_until_saved(catalogues: Catalogues) -> None:
    current = catalogues.load("alice")
    assert (current.models, current.etag) == (UserModels(), None)
    saved = catalogues.update("alice", lambda models: added(models, model("one")))
    assert catalogues.load("alice") == saved
    assert catalogues.load("bob").etag is None


def test_save_over_another_version_is_a_conflict(catalogues: Catalogues) -> None:
    first = catalogues.save("alice", added(UserModels(), model("one")), None)
    with pytest.raises(WriteConflict):
        catalogues.save("alice", UserModels(), None)
    catalogues.save("alice", added(first.models, model("two")), first.etag)
    with pytest.raises(WriteConflict):
        catalogues.save("alice", UserModels(), first.etag)


def test_update_loses_nothing_and_keeps_names_unique(catalogues: Catalogues) -> None:
    def add(number: int) -> bool:
        try:
            catalogues.update("alice", lambda models: added(models, model(f"model{number // 2}")))
        except NameTaken:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(add, range(8)))
    assert sum(results) == 4
    assert sorted(m.name for m in catalogues.load("alice").models.models) == [f"model{n}" for n in range(4)]


def test_update_that_changes_nothing_writes_nothing(catalogues: Catalogues) -> None:
    assert catalogues.update("alice", lambda models: models).etag is None
    saved = catalogues.update("alice", lambda models: added(models, model("one")))
    assert catalogues.update("alice", lambda models: models) == saved


def test_update_gives_up_at_its_deadline(catalogues: Catalogues) -> None:
    def outrun(models: UserModels) -> UserModels:
        current = catalogues.load("alice")
        catalogues.save("alice", added(current.models, model(generate_uid())), current.etag)
        return added(models, model("mine"))

    with pytest.raises(Unavailable):
        catalogues.update("alice", outrun, deadline_s=0.2)
    assert "mine" not in [record.name for record in catalogues.load("alice").models.models]

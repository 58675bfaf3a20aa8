from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.errors import NameTaken, Superseded, Unavailable
from registry.records import ModelRecord, UserModels, generate_uid
from registry.store import ObjectStore, WriteConflict
from registry.user_models import UserModelStore
from tests.support.model_records import model_record


def model(name: str) -> ModelRecord:
    return model_record(id=name, name=name)


def added(models: UserModels, record: ModelRecord) -> UserModels:
    if any(record.name == other.name for other in models.models):
        raise NameTaken("this name is taken", "name")
    return UserModels(models=(*models.models, record))


@pytest.fixture
def user_models(store: ObjectStore) -> UserModelStore:
    return UserModelStore(store)


def test_list_is_empty_until_saved(user_models: UserModelStore) -> None:
    current = user_models.load("alice")
    assert (current.models, current.etag) == (UserModels(), None)
    saved = user_models.update("alice", lambda models: added(models, model("one")))
    assert user_models.load("alice") == saved
    assert user_models.load("bob").etag is None


def test_save_over_another_version_is_a_conflict(user_models: UserModelStore) -> None:
    first = user_models.save("alice", added(UserModels(), model("one")), None)
    with pytest.raises(WriteConflict):
        user_models.save("alice", UserModels(), None)
    user_models.save("alice", added(first.models, model("two")), first.etag)
    with pytest.raises(WriteConflict):
        user_models.save("alice", UserModels(), first.etag)


def test_update_loses_nothing_and_keeps_names_unique(user_models: UserModelStore) -> None:
    def add(number: int) -> bool:
        try:
            user_models.update("alice", lambda models: added(models, model(f"model{number // 2}")))
        except NameTaken:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(add, range(8)))
    assert sum(results) == 4
    assert sorted(m.name for m in user_models.load("alice").models.models) == [f"model{n}" for n in range(4)]


def test_update_that_changes_nothing_writes_nothing(user_models: UserModelStore) -> None:
    assert user_models.update("alice", lambda models: models).etag is None
    saved = user_models.update("alice", lambda models: added(models, model("one")))
    assert user_models.update("alice", lambda models: models) == saved


def test_update_gives_up_at_its_deadline(user_models: UserModelStore) -> None:
    def outrun(models: UserModels) -> UserModels:
        current = user_models.load("alice")
        user_models.save("alice", added(current.models, model(generate_uid())), current.etag)
        return added(models, model("mine"))

    with pytest.raises(Unavailable):
        user_models.update("alice", outrun, deadline_s=0.2)
    assert "mine" not in [record.name for record in user_models.load("alice").models.models]


def test_former_catalog_cannot_change_a_list_that_a_later_one_has_claimed(store: ObjectStore) -> None:
    former, later = UserModelStore(store, 1), UserModelStore(store, 2)
    former.update("alice", lambda models: added(models, model("one")))
    claimed = later.claim("alice")
    assert claimed.epoch == 2 and len(claimed.models.models) == 1
    with pytest.raises(Superseded):
        former.update("alice", lambda models: added(models, model("two")))
    with pytest.raises(Superseded):
        former.claim("alice")
    assert later.claim("alice") == former.load("alice") == claimed


def test_list_that_does_not_exist_is_claimed_too(store: ObjectStore) -> None:
    former, later = UserModelStore(store, 1), UserModelStore(store, 2)
    assert later.claim("alice").models == UserModels()
    with pytest.raises(Superseded):
        former.update("alice", lambda models: added(models, model("one")))


def test_write_on_its_way_fails_when_the_list_is_claimed(store: ObjectStore) -> None:
    former, later = UserModelStore(store, 1), UserModelStore(store, 2)

    def add(models: UserModels) -> UserModels:
        later.claim("alice")
        return added(models, model("one"))

    with pytest.raises(Superseded):
        former.update("alice", add)
    assert later.load("alice").models == UserModels()


def test_program_without_a_leadership_leaves_the_epoch_as_it_is(store: ObjectStore) -> None:
    UserModelStore(store, 3).claim("alice")
    UserModelStore(store).update("alice", lambda models: added(models, model("one")))
    assert UserModelStore(store).load("alice").epoch == 3

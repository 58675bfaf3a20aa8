"""Reservations on a real object store."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.errors import IdempotencyConflict
from registry.reservations import Reservations
from registry.store import ObjectStore


def test_first_of_concurrent_reservations_gives_the_id(store: ObjectStore) -> None:
    reservations = Reservations(store)
    with ThreadPoolExecutor(8) as pool:
        ids = pool.map(lambda n: reservations.reserve("alice", "r", "k", b"body", f"id-{n}").id, range(8))
    assert len(set(ids)) == 1


def test_another_body_is_a_conflict(store: ObjectStore) -> None:
    reservations = Reservations(store)
    reservations.reserve("alice", "r", "k", b"body", "a")
    with pytest.raises(IdempotencyConflict):
        reservations.reserve("alice", "r", "k", b"other", "b")


def test_routes_users_and_keys_are_apart(store: ObjectStore) -> None:
    reservations = Reservations(store)
    places = [("alice", "r", "k"), ("bob", "r", "k"), ("alice", "s", "k"), ("alice", "r", "l")]
    ids = [reservations.reserve(*place, b"body", f"id-{n}").id for n, place in enumerate(places)]
    assert ids == ["id-0", "id-1", "id-2", "id-3"]


def test_finished_reservation_says_so(store: ObjectStore) -> None:
    reservations = Reservations(store)
    first = reservations.reserve("alice", "r", "k", b"body", "a")
    reservations.finish("alice", "r", "k", first)
    again = reservations.reserve("alice", "r", "k", b"body", "b")
    assert (again.id, again.is_done, first.is_done) == ("a", True, False)


def test_key_is_stored_as_a_hash(store: ObjectStore) -> None:
    Reservations(store).reserve("alice", "r", "../../secret key", b"body", "a")
    assert all("secret" not in key for key in store.list("idempotency/"))

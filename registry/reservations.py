"""Reservations of ids, so that repeating a request with an `Idempotency-Key` makes nothing new.

    idempotency/<user>/<sha256 of route and key>.json      digest of the body, id of the object that it makes

The id is reserved before the object is made, so a repeat after a crash continues with the same id. If a
reservation `is_done`, its object is never made again, even if it was deleted. A lifecycle rule of the bucket
may delete old reservations.
"""

import hashlib

from registry.errors import IdempotencyConflict
from registry.records import Record
from registry.store import ObjectStore, WriteConflict


class Reservation(Record):
    body_sha256: str
    id: str
    is_done: bool = False


class Reservations:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def reserve(self, user: str, route: str, key: str, body: bytes, new_id: str) -> Reservation:
        """The reservation of the first request with this key. If this is the first, it gets `new_id`.

        Raises: IdempotencyConflict if the first request had another body.
        """
        wanted = Reservation(body_sha256=hashlib.sha256(body).hexdigest(), id=new_id)
        object_key = _object_key(user, route, key)
        try:
            self._store.create(object_key, wanted.model_dump_json().encode())
            return wanted
        except WriteConflict:
            first = Reservation.model_validate_json(self._store.get(object_key).body)
        if first.body_sha256 != wanted.body_sha256:
            raise IdempotencyConflict("this Idempotency-Key was used with another body")
        return first

    def finish(self, user: str, route: str, key: str, reservation: Reservation) -> None:
        """Note that the object of this reservation is made."""
        done = reservation.model_copy(update={"is_done": True})
        self._store.put(_object_key(user, route, key), done.model_dump_json().encode())


def _object_key(user: str, route: str, key: str) -> str:
    return f"idempotency/{user}/{hashlib.sha256(f'{route} {key}'.encode()).hexdigest()}.json"

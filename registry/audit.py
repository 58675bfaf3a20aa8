"""The audit log in the bucket: who did what, on what, and when. Entries are added and never changed.

    audit/<day>/<time>-<id>/begun.json    who is about to do what; written before the action
    audit/<day>/<time>-<id>/ended.json    the outcome; written after it

An action whose `begun.json` cannot be written does not happen. So every action that happened is in the log,
whatever died in between. Without `ended.json` the outcome is unknown. Both objects are created under the
condition that they do not exist, and nothing in this project changes or deletes them.

An entry has ids only. It has no key, no hash of a key, no name of a key and no text of a conversation.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Literal, Protocol

from pydantic import Field

from registry.records import Record, Timestamp, User, utc_now
from registry.store import StoredObject

PREFIX = "audit/"
BEGUN, ENDED = "begun.json", "ended.json"
DONE = "done"
UNKNOWN = "unknown"
READ_BATCH = 250

Actor = Literal["user", "operator"]


class Action(StrEnum):
    CREATE_KEY = "create_key"
    REVOKE_KEY = "revoke_key"
    CREATE_MODEL = "create_model"
    DELETE_MODEL = "delete_model"
    ACTIVATE_REVISION = "activate_revision"
    ACCEPT_TRAINING = "accept_training"
    CANCEL_TRAINING = "cancel_training"
    PAUSE_TRAINING = "pause_training"
    RESUME_TRAINING = "resume_training"
    CREATE_FILE = "create_file"
    DELETE_FILE = "delete_file"
    DEPLOY_SETTINGS = "deploy_settings"


class Begun(Record):
    """`begun.json`: an action that is about to happen."""

    id: str
    time: Timestamp
    action: Action
    actor: Actor = Field(description="a user with a key, or the operator with the command line")
    user: User | None = Field(description="whose key, model or training it is; None: it concerns no user")
    key: str | None = Field(description="id of the key of the request; None for the operator")
    request_id: str | None = Field(description="X-Request-Id of the request; None for the operator")
    targets: dict[str, str] = Field(description="ids of what the action is about, as far as they are known")


class Ended(Record):
    """`ended.json`: the outcome of an action, and the ids that became known by it."""

    time: Timestamp
    outcome: str = Field(description="`done`, or the code of the error")
    status: int | None = Field(description="HTTP status of the answer; None for the operator")
    targets: dict[str, str]


class Entry(Record):
    """An entry of the log, made of both objects. Without `ended.json` the outcome is `unknown`."""

    time: Timestamp
    action: Action
    actor: Actor
    user: str | None
    key: str | None
    targets: dict[str, str]
    outcome: str
    status: int | None
    ended: Timestamp | None
    request_id: str | None

    @classmethod
    def of(cls, begun: Begun, ended: Ended | None) -> "Entry":
        return cls(
            **begun.model_dump(exclude={"id", "targets"}),
            targets=begun.targets | (ended.targets if ended else {}),
            outcome=ended.outcome if ended else UNKNOWN,
            status=ended.status if ended else None,
            ended=ended.time if ended else None,
        )


class AuditObjects(Protocol):
    """The methods of ObjectStore that the log uses. None of them can change an object that exists."""

    def create(self, key: str, body: bytes) -> str: ...

    def list(self, prefix: str, start_after: str = "") -> Sequence[str]: ...

    def get_many(self, keys: Iterable[str]) -> Sequence[StoredObject | None]: ...


class AuditLog:
    """The log of all users. Every method raises Unavailable if storage is away."""

    def __init__(self, objects: AuditObjects, now: Callable[[], datetime] = utc_now) -> None:
        self._objects = objects
        self._now = now

    def begin(
        self,
        action: Action,
        actor: Actor,
        user: str | None,
        key: str | None = None,
        request_id: str | None = None,
        targets: Mapping[str, str] | None = None,
    ) -> Begun:
        """Write who is about to do what. The action may happen only when this has returned.

        Raises:
            pydantic.ValidationError: `user` is not a user name.
        """
        begun = Begun(
            id=secrets.token_hex(8),
            time=self._now(),
            action=action,
            actor=actor,
            user=user,
            key=key,
            request_id=request_id,
            targets=dict(targets or {}),
        )
        self._objects.create(_place(begun) + BEGUN, begun.model_dump_json().encode())
        return begun

    def end(
        self, begun: Begun, outcome: str, status: int | None = None, targets: Mapping[str, str] | None = None
    ) -> None:
        """Write the outcome of an action."""
        ended = Ended(time=self._now(), outcome=outcome, status=status, targets=dict(targets or {}))
        self._objects.create(_place(begun) + ENDED, ended.model_dump_json().encode())

    def entries(self, since: datetime) -> Iterator[Entry]:
        """Yield the entries that began at `since` or later, oldest first."""
        keys = iter(self._objects.list(PREFIX, start_after=PREFIX + _moment(since)))
        begun = (key for key in keys if key.endswith(f"/{BEGUN}"))
        while batch := list(islice(begun, READ_BATCH)):
            yield from self._read(batch)

    def _read(self, keys: Sequence[str]) -> Iterator[Entry]:
        first = self._objects.get_many(keys)
        second = self._objects.get_many(key.removesuffix(BEGUN) + ENDED for key in keys)
        for begun, ended in zip(first, second, strict=True):
            if begun is not None:  # the operator may have let old entries expire meanwhile
                yield Entry.of(
                    Begun.model_validate_json(begun.body),
                    None if ended is None else Ended.model_validate_json(ended.body),
                )


def _place(begun: Begun) -> str:
    return f"{PREFIX}{_moment(begun.time)}-{begun.id}/"


def _moment(time: datetime) -> str:
    """The day and the time of day to the millisecond, so that keys are in the order of time."""
    time = time.astimezone(UTC)
    return f"{time:%Y-%m-%d}/{time:%H%M%S}.{time.microsecond // 1000:03}"

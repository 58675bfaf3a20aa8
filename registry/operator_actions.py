"""Actions of the operator at the command line. Each is in the audit log before it happens.

recorded(...)             any action
recorded_deployment(...)  settings that are given to Ray Serve
OperatorKeys              keys that are made and revoked
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import PurePath
from typing import Any

from registry.audit import DONE, Action, AuditLog, Begun
from registry.errors import TigerError, Unavailable
from registry.keys import ApiKeys, generate_key, hash_key
from registry.records import KeyRecord
from registry.store import ObjectStore

logger = logging.getLogger(__name__)

FAILED = "failed"


@contextmanager
def recorded(
    log: AuditLog, action: Action, user: str | None = None, **targets: str
) -> Iterator[dict[str, str]]:
    """Record an action, which is the block. The block adds the ids that it makes to the dictionary.

    If the outcome cannot be written, the action has happened all the same, and its outcome stays unknown.

    Raises:
        Unavailable: the log cannot be written. The block does not run.
    """
    begun = log.begin(action, "operator", user, targets=targets)
    found: dict[str, str] = {}
    try:
        yield found
    except Exception as error:
        _end(log, begun, error.code if isinstance(error, TigerError) else FAILED, found)
        raise
    _end(log, begun, DONE, found)


@contextmanager
def recorded_deployment(log: AuditLog, config: str, submitted: Mapping[str, Any]) -> Iterator[None]:
    """Record that settings are deployed: the name of the file and a digest of what the block submits.

    The settings themselves are not in the log, because an environment in them may have secrets.
    """
    digest = hashlib.sha256(json.dumps(submitted, sort_keys=True, default=str).encode()).hexdigest()
    with recorded(log, Action.DEPLOY_SETTINGS, config=PurePath(config).name, sha256=digest):
        yield


class OperatorKeys:
    """The keys of all users, for the operator. Every method raises Unavailable if storage is away."""

    def __init__(self, store: ObjectStore) -> None:
        self._keys = ApiKeys(store)
        self._log = AuditLog(store)

    def create(self, user: str, name: str, expires: datetime | None = None) -> str:
        """Make a key and return it. It cannot be read again later.

        Raises:
            pydantic.ValidationError: `user` is not a user name.
        """
        key = generate_key()
        with recorded(self._log, Action.CREATE_KEY, user) as made:
            made["key"] = self._keys.add(hash_key(key), user, name, expires).id
        return key

    def revoke(self, name: str) -> KeyRecord:
        """Delete the one key that has this id, or whose hash begins with `name`; return its record.

        Raises: KeyNotIdentified.
        """
        record = self._keys.identified(name)
        with recorded(self._log, Action.REVOKE_KEY, record.user, key=record.id):
            return self._keys.revoke(record.id)


def _end(log: AuditLog, begun: Begun, outcome: str, targets: Mapping[str, str]) -> None:
    try:
        log.end(begun, outcome, targets=targets)
    except Unavailable:
        logger.warning("the audit log does not have the outcome of %s", begun.action)

"""Writes the actions of users to the audit log: who, with which key, in which request, with which outcome.

    route -> AuditedRequest.recorded -> begun.json -> the action -> ended.json -> answer

The ingress writes the log because it knows the key and the request. An action whose beginning cannot be
written is refused with `Unavailable`. If only the outcome cannot be written, the action has happened, and the
client gets its answer.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from registry.audit import DONE, Action, AuditLog, Begun
from registry.tasks import BackgroundTasks
from serve_app.api.errors import status_of
from serve_app.remote_errors import as_tiger_error

logger = logging.getLogger("ray.serve")


class AuditTrail:
    """The audit log for one ingress replica. Clients that go away do not interrupt its writes."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._background = BackgroundTasks()

    async def begin(
        self, action: Action, user: str, key: str, request_id: str | None, targets: Mapping[str, str]
    ) -> Begun:
        """Writes the beginning of an action. Raises: Unavailable."""
        return await asyncio.to_thread(self._log.begin, action, "user", user, key, request_id, targets)

    async def end(self, begun: Begun, outcome: str, status: int, targets: Mapping[str, str]) -> None:
        """Writes the outcome, even if the caller is cancelled meanwhile."""
        await asyncio.shield(self._background.start(self._end(begun, outcome, status, targets)))

    async def _end(self, begun: Begun, outcome: str, status: int, targets: Mapping[str, str]) -> None:
        try:
            await asyncio.to_thread(self._log.end, begun, outcome, status, targets)
        except Exception as error:
            logger.warning("the audit log lacks an outcome of %s: %s", begun.action, type(error).__name__)


class AuditedRequest:
    """A request whose actions are recorded. `key` is the id of its API key."""

    def __init__(self, trail: AuditTrail, user: str, key: str, request_id: str | None) -> None:
        self._trail = trail
        self._user = user
        self._key = key
        self._request_id = request_id

    @asynccontextmanager
    async def recorded(
        self, action: Action, status: int = 200, **targets: str
    ) -> AsyncIterator[dict[str, str]]:
        """Records an action, which is the block. The block adds the ids that it makes to the dictionary.

        `status` is that of the answer if the block succeeds. If the client goes away during the block, the
        outcome stays unknown.

        Raises: Unavailable, without running the block, if the log cannot be written; the errors of the block.
        """
        begun = await self._trail.begin(action, self._user, self._key, self._request_id, targets)
        found: dict[str, str] = {}
        try:
            yield found
        except Exception as error:
            refusal = as_tiger_error(error)
            await self._trail.end(begun, refusal.code, status_of(refusal), found)
            raise refusal from None
        await self._trail.end(begun, DONE, status, found)

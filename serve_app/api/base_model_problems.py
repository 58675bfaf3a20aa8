"""Tells why a base model has no replica that answers, for `/readyz`. Everybody may read that.

    Ray    which resources a replica waits for      ->  `it waits for 1 GPU (0 of 4 free)`
    Serve  the message about a failed start         ->  `its replica cannot start: ...`

Serve's message is the whole traceback, with paths of the machine. Only two things of it are shown: the text
of a CannotStart, which our own checks raise, or else the kind of the error.
"""

import asyncio
import re
from collections.abc import Callable

from serve_app.cannot_start import CannotStart
from serve_app.deployment_options import base_model_application, model_server_name
from serve_app.resource_waits import WAITS_FOR, ResourceWaits
from serve_app.shared_tasks import SharedTasks

OUR_REASON = re.compile(rf"\b{CannotStart.__name__}: (?P<reason>[^\n]+)")
LAST_LINE = re.compile(
    r"^(?:[a-z_][\w.]*\.)?(?P<kind>[A-Z]\w*(?:Error|Exception|Interrupt|Exit))\b", re.MULTILINE
)
"""The line of a traceback that has the kind of the error."""

FindMessage = Callable[[str], str | None]
"""Returns Serve's message about an application, or None if there is no such application."""


def message_of_serve(application: str) -> str | None:
    """Returns Serve's messages about an application and its deployments. It blocks for some milliseconds."""
    from ray import serve

    found = serve.status().applications.get(application)
    if found is None:
        return None
    return "\n".join([found.message, *(each.message for each in found.deployments.values())])


class BaseModelProblems:
    """The reasons why base models have no replicas that answer. Simultaneous questions share one answer."""

    def __init__(
        self, waits: ResourceWaits | None = None, message_of: FindMessage = message_of_serve
    ) -> None:
        self._waits = waits or ResourceWaits()
        self._message_of = message_of
        self._questions: SharedTasks[str] = SharedTasks()

    async def of(self, base_model: str) -> str:
        """Returns a sentence that names the base model and the reason, as far as it is known."""

        async def find() -> str:
            return await asyncio.to_thread(self._find, base_model)

        return await self._questions.join(base_model, find)()

    def _find(self, base_model: str) -> str:
        problem = f"base model {base_model} has no replica that answers"
        try:
            if (wait := self._waits.of_replica(model_server_name(base_model))) is not None:
                return f"{problem}: {WAITS_FOR} {wait}"
            message = self._message_of(base_model_application(base_model))
        except Exception:  # Ray's control store or Serve's controller does not answer
            return problem
        if message is None:
            return f"{problem}: it is not deployed"
        reason = reason_of(message)
        return f"{problem}: {reason}" if reason else problem


def reason_of(message: str) -> str | None:
    """Returns what may be shown of Serve's message about a failed start, or None if it is about none."""
    if (ours := OUR_REASON.search(message)) is not None:
        return f"its replica cannot start: {ours['reason']}"
    kinds = LAST_LINE.findall(message)
    return f"its replica cannot start: {kinds[-1]}; the log of the replica says more" if kinds else None

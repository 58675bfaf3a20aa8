"""Facts about a run that both sides of training know: how it ends, and how its placement groups are named.

tiger-training#<application>#<base model>#<run><group>        run, group: random numbers
"""

import secrets
from typing import Protocol


class OnEnd(Protocol):
    """Called when a run has ended. `failure` says why it could not go on; None: it had nothing to do."""

    def __call__(self, failure: str | None = None) -> None: ...


def groups_of(application: str, base_model: str | None = None) -> str:
    """Return how the names of these groups begin. Without a base model: those of the whole application."""
    of_application = f"tiger-training#{application}#"
    return of_application if base_model is None else f"{of_application}{base_model}#"


def groups_of_new_run(application: str, base_model: str) -> str:
    """Return how the names of the groups of one run begin, which no other run has.

    While a Trainer is being replaced, its last run may end after the first run of the next Trainer began.
    """
    return groups_of(application, base_model) + secrets.token_hex(8)

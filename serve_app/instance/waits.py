"""The waits for resources of Ray, as `tiger status` shows them.

GET /api/v0/placement_groups of the Ray dashboard  ->  pending groups of this application  ->  Wait
"""

import re
from collections.abc import Iterable
from typing import Any

from registry.records import Record
from serve_app.deployment_options import APPLICATION, base_model_application
from serve_app.resource_waits import amounts, total_of
from training.runs import groups_of

PATH = "/api/v0/placement_groups"
PARAMETERS = {
    "detail": "true",
    "limit": "1000",
    "filter_keys": "state",
    "filter_predicates": "=",
    "filter_values": "PENDING",
}
"""The parameters with which the dashboard returns only pending groups, with the times of their requests."""
SUBJECTS = (
    (re.compile(rf"SERVE_REPLICA::(?:{APPLICATION}|{base_model_application('')}[^#]+)#(.+)#\w+"), "{}"),
    (re.compile(rf"{re.escape(groups_of(APPLICATION))}(.+)#\w+"), "training of {}"),
)
"""The names of placement groups, and what waits with such a group."""


class Wait(Record):
    """A replica or a training run that waits."""

    subject: str
    needs: str
    age_s: float

    def as_text(self) -> str:
        return f"for {self.needs}, since {self.age_s:.0f} s"


def waits_of(groups: Iterable[dict[str, Any]], now_s: float) -> tuple[Wait, ...]:
    """Returns the waits of our application, the oldest first. `now_s` is the time since the epoch."""
    found = (_wait_of(group, now_s) for group in groups)
    return tuple(sorted((wait for wait in found if wait is not None), key=lambda wait: -wait.age_s))


def _wait_of(group: dict[str, Any], now_s: float) -> Wait | None:
    for pattern, subject in SUBJECTS:
        if (match := pattern.fullmatch(group["name"])) is not None:
            return Wait(
                subject=subject.format(match[1]),
                needs=amounts(total_of(bundle["unit_resources"] for bundle in group["bundles"])),
                age_s=max(0.0, now_s - int(group["stats"]["creation_request_received_ns"]) / 1e9),
            )
    return None

"""Pages of what OpenAI's fine-tuning API lists: a limit, and the id of the last item of the page before."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from registry.errors import InvalidRequest
from registry.records import JobRecord
from serve_app.api.trainer_client import TrainerClient

READ_BATCH = 100
PREFIX, END = "metadata[", "]"


class HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=HasId)


class MetadataFilter:
    """Selects jobs by metadata: `metadata[k]=v` for each key, or `metadata=null` for jobs without any."""

    def __init__(self, query: Mapping[str, str]) -> None:
        """Raises: InvalidRequest: both forms are given, or another value of `metadata`."""
        self._wanted = {
            name[len(PREFIX) : -len(END)]: value
            for name, value in query.items()
            if name.startswith(PREFIX) and name.endswith(END)
        }
        self._is_null = "metadata" in query
        if self._is_null and (query["metadata"] != "null" or self._wanted):
            raise InvalidRequest("metadata: give `metadata[key]=value`, or `metadata=null` alone", "metadata")

    def accepts(self, metadata: Mapping[str, str] | None) -> bool:
        if self._is_null:
            return metadata is None
        return self._wanted.items() <= (metadata or {}).items()


async def page_of_jobs(
    trainer: TrainerClient, user: str, chosen: MetadataFilter, after: str | None, limit: int
) -> tuple[list[JobRecord], bool]:
    """Returns a page of the jobs that were made with OpenAI's API, newest first, and if there are more.

    Raises: JobNotFound: `after` is malformed.
    """
    found: list[JobRecord] = []
    while len(found) <= limit:
        batch = await trainer.list_jobs(user, None, None, after, READ_BATCH)
        found += [
            job for job in batch if job.fine_tuning is not None and chosen.accepts(job.fine_tuning.metadata)
        ]
        if len(batch) < READ_BATCH:
            break
        after = batch[-1].id
    return found[:limit], len(found) > limit


def page_of(items: Sequence[T], after: str | None, limit: int) -> tuple[list[T], bool]:
    """Returns the items after the one with this id, and if there are more. Raises: InvalidRequest."""
    begin = 0
    if after is not None:
        places = [place for place, item in enumerate(items) if item.id == after]
        if not places:
            raise InvalidRequest("after: there is no such item in this list", "after")
        begin = places[0] + 1
    return list(items[begin : begin + limit]), len(items) > begin + limit

"""Reads the files of a fine-tuning job into the request of a training.

    training file, validation file --bucket--> lines --> JobRequest, packed, with the number of each line

A small file is read in a thread. A large one is read by a task of Ray, as in `api.file_checks`: reading JSON
would hold the interpreter of the ingress. The job has all data in its own request. So a file that is deleted
later is not missed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from registry.errors import (
    NO_SUCH_FILE,
    UNREACHABLE,
    FileNotFound,
    InvalidRequest,
    NoLearningSignal,
    TigerError,
    Unavailable,
)
from registry.file_lists import content_key
from registry.file_records import FileRecord
from registry.records import Example, JobRequest, Pair
from registry.settings import StorageSettings
from registry.store import ObjectMissing, ObjectStore
from serve_app.api.file_checks import BYTES_IN_A_THREAD, TASKS_AT_ONCE
from serve_app.api.file_content import checked
from serve_app.api.fine_tuning.packed_request import packed
from serve_app.wire.training_files import numbered_records

logger = logging.getLogger("ray.serve")

NOTHING_PREFERRED = "in every line both outputs are equal, so there is nothing to prefer"
PLACES = {
    "examples": {},
    "pairs": {
        "messages": "input.messages",
        "tools": "input.tools",
        "preferred": "preferred_output",
        "rejected": "non_preferred_output",
    },
}
"""The fields of a line by those of the record that it becomes, if they have other names."""


class JobFile(NamedTuple):
    """A file of a job, and the field of the request that names it."""

    param: str
    record: FileRecord


class ReadJob(NamedTuple):
    """The request of a training as bytes, and the line of each of its records, by the field of the file."""

    request: bytes
    lines: dict[str, tuple[int, ...]]

    def with_line(self, error: InvalidRequest) -> InvalidRequest:
        """Returns an error about a record of the request as one about a line of a file."""
        kind, _, place = (error.param or "").partition(".")
        is_validation = kind.startswith("validation_")
        param = "validation_file" if is_validation else "training_file"
        kind = kind.removeprefix("validation_")
        if kind not in PLACES:
            return error
        number, _, field = place.partition(".")
        if not number.isdigit():
            return type(error)(f"{param}: {error.message}", param)
        first, dot, rest = field.partition(".")
        field = PLACES[kind].get(first, first) + dot + rest
        return type(error)(f"{param}: line {self.lines[param][int(number)]}: {field}: {error.message}", param)


Read = Callable[[str, JobRequest, tuple[JobFile, ...]], Awaitable[ReadJob]]


class FilesElsewhere:
    """Reads files. `apart` reads large ones, outside of this process."""

    def __init__(self, store: ObjectStore, apart: Read | None = None) -> None:
        self._store = store
        self._apart = apart or _in_a_task(store.settings)
        self._places = asyncio.Semaphore(TASKS_AT_ONCE)

    async def __call__(self, user: str, request: JobRequest, files: tuple[JobFile, ...]) -> ReadJob:
        """Reads the files into a copy of `request`, which has everything but what is taught.

        Raises: InvalidRequest, NoLearningSignal; FileNotFound: deleted a moment ago; Unavailable.
        """
        if sum(file.record.size_bytes for file in files) <= BYTES_IN_A_THREAD:
            return await asyncio.to_thread(read_files, self._store, user, request, files)
        async with self._places:
            return await self._apart(user, request, files)


def _in_a_task(settings: StorageSettings) -> Read:
    task: Any = ray.remote(num_cpus=0, max_retries=1)(_read_apart)

    async def read(user: str, request: JobRequest, files: tuple[JobFile, ...]) -> ReadJob:
        try:
            found: ReadJob | TigerError = await task.remote(settings, user, request, files)
        except RayError as error:
            logger.warning("the files of a job were not read: %s", type(error).__name__)
            raise Unavailable(UNREACHABLE) from None
        if isinstance(found, TigerError):
            raise found
        return found

    return read


def _read_apart(
    settings: StorageSettings, user: str, request: JobRequest, files: tuple[JobFile, ...]
) -> ReadJob | TigerError:
    """Reads files in a task. It returns refusals, because Ray writes what a task raises into its log."""
    try:
        return read_files(ObjectStore(settings), user, request, files)
    except TigerError as error:
        return error


def read_files(store: ObjectStore, user: str, request: JobRequest, files: tuple[JobFile, ...]) -> ReadJob:
    """Reads files into a copy of `request`. Raises: as FilesElsewhere."""
    taught: dict[str, list[Example] | list[Pair]] = {}
    lines: dict[str, tuple[int, ...]] = {}
    for file in files:
        numbers, examples, pairs = _records(store, user, file)
        prefix = "validation_" if file.param == "validation_file" else ""
        taught |= {f"{prefix}examples": examples, f"{prefix}pairs": pairs}
        lines[file.param] = numbers
    whole = request.model_copy(update={name: tuple(records) for name, records in taught.items()})
    for param, found in (("training_file", whole.pairs), ("validation_file", whole.validation_pairs)):
        if found and all(pair.preferred == pair.rejected for pair in found):
            raise NoLearningSignal(f"{param}: {NOTHING_PREFERRED}", param)
    return ReadJob(packed(whole), lines)


def _records(
    store: ObjectStore, user: str, file: JobFile
) -> tuple[tuple[int, ...], list[Example], list[Pair]]:
    numbers: list[int] = []
    examples: list[Example] = []
    pairs: list[Pair] = []
    chunks = checked(store.read_chunks(content_key(user, file.record.id)), file.record)
    try:
        for number, record in numbered_records(chunks, file.param):
            numbers.append(number)
            if isinstance(record, Example):
                examples.append(record)
            else:
                pairs.append(record)
    except ObjectMissing:
        raise FileNotFound(NO_SUCH_FILE, file.param) from None
    return tuple(numbers), examples, pairs

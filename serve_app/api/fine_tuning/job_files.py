"""Finds the files that a fine-tuning job names, and refuses those that it cannot use before they are read."""

import asyncio

from registry.errors import FileNotFound, InvalidRequest
from registry.file_lists import FileLists
from registry.file_records import FileFormat, FilePurpose, FileRecord
from registry.records import Method
from registry.store import ObjectStore
from serve_app.api.fine_tuning.file_reading import JobFile
from serve_app.settings import LimitSettings
from serve_app.wire.fine_tuning import CreateFineTuningJob
from serve_app.wire.lengths import CHARACTERS_PER_TOKEN

BYTES_PER_CHARACTER = 2
"""A bound of the average for whole files: long texts of many tokens have fewer characters per token."""
FORMATS = {Method.SUPERVISED: FileFormat.CONVERSATIONS, Method.DPO: FileFormat.PREFERENCES}


async def files_of(
    store: ObjectStore, user: str, request: CreateFineTuningJob, limits: LimitSettings
) -> tuple[JobFile, ...]:
    """Returns the training file, and the validation file if there is one.

    Raises: FileNotFound: unknown, or another user's; InvalidRequest.
    """
    named = {"training_file": request.training_file, "validation_file": request.validation_file}
    files = await asyncio.to_thread(FileLists(store).load, user)
    by_id = {record.id: record for record in files.files}
    found = []
    for param, file_id in named.items():
        if file_id is None:
            continue
        if file_id not in by_id:
            raise FileNotFound(f"{param}: there is no such file", param)
        file = JobFile(param, by_id[file_id])
        _check(file, request.chosen().method, limits)
        found.append(file)
    _check_size(found, limits)
    return tuple(found)


def number_of(record: FileRecord) -> int:
    """Returns the number of examples or pairs of a file that was checked."""
    assert record.check is not None
    return record.check.num_records


def _check(file: JobFile, method: Method, limits: LimitSettings) -> None:
    param, record = file
    if record.purpose is not FilePurpose.FINE_TUNE or record.check is None:
        raise InvalidRequest(f"{param}: the purpose of this file is not `fine-tune`", param)
    if record.check.errors:
        raise InvalidRequest(f"{param}: {'; '.join(record.check.errors)}", param)
    if record.check.format is not FORMATS[method]:
        raise InvalidRequest(
            f"{param}: the lines are {record.check.format}; the method {method} takes {FORMATS[method]}",
            param,
        )
    if (number := record.check.num_records) > (most := limits.max_examples_per_job):
        raise InvalidRequest(
            f"{param}: there are {number} lines to learn; one job takes at most {most}", param
        )


def _check_size(files: list[JobFile], limits: LimitSettings) -> None:
    """Refuses files of which the tokens are certainly too many. Raises: InvalidRequest."""
    total = sum(file.record.size_bytes for file in files)
    most = limits.max_tokens_per_job * CHARACTERS_PER_TOKEN * BYTES_PER_CHARACTER
    if total > most:
        raise InvalidRequest(
            f"training_file: the files have {total} bytes; those of one job have at most {most}",
            "training_file",
        )

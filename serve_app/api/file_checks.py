"""Checks the lines of training files while they are uploaded, outside of the ingress.

    part of a file -> whole lines -> few bytes: a thread            -> FileCheck of all lines so far
                                  -> many bytes: a task of Ray

Reading JSON holds Python's interpreter. In the ingress, the lines of a large file would take turns with the
tokens of everybody's streams, for minutes. Ray's tasks run in processes of their own, which it starts when
they are needed, and starts again if one dies. They are told one part at a time, so no file is in memory as a
whole, and a slow upload holds no process while it waits.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import ray
from ray.exceptions import RayError

from registry.errors import UNREACHABLE, Unavailable
from registry.file_records import FileCheck
from serve_app.wire.training_files import WholeLines, check_block, check_end

logger = logging.getLogger("ray.serve")

BYTES_IN_A_THREAD = 2**18
"""The size of a block that takes some milliseconds to check, which is less than a task of Ray takes."""
TASKS_AT_ONCE = 2
"""The number of blocks of all users that an ingress replica has checked at a time."""

BlockCheck = Callable[[bytes, FileCheck], Awaitable[FileCheck]]
"""A function that returns the check of all lines so far, given a block and the check of those before it."""


class ChecksElsewhere:
    """A BlockCheck that keeps large blocks out of this process. `apart` checks them."""

    def __init__(self, apart: BlockCheck | None = None) -> None:
        self._apart = apart or _in_a_task()
        self._places = asyncio.Semaphore(TASKS_AT_ONCE)

    async def __call__(self, block: bytes, before: FileCheck) -> FileCheck:
        """Raises: Unavailable: the process that checks died."""
        if len(block) <= BYTES_IN_A_THREAD:
            return await asyncio.to_thread(check_block, block, before)
        async with self._places:
            return await self._apart(block, before)


def _in_a_task() -> BlockCheck:
    """Returns a BlockCheck that runs as a task of Ray."""
    task: Any = ray.remote(num_cpus=0, max_retries=1)(check_block)

    async def check(block: bytes, before: FileCheck) -> FileCheck:
        try:
            found: FileCheck = await task.remote(block, before)
        except RayError as error:
            logger.warning("lines of a file were not checked: %s", type(error).__name__)
            raise Unavailable(UNREACHABLE) from None
        return found

    return check


class FileInProgress:
    """The check of one file that arrives in parts."""

    def __init__(self, check: BlockCheck) -> None:
        self._check = check
        self._lines = WholeLines()
        self._found = FileCheck()

    async def add(self, part: bytes) -> None:
        await self._check_block(self._lines.add(part))

    async def finish(self, last: bytes) -> FileCheck:
        await self.add(last)
        await self._check_block(self._lines.end())
        return check_end(self._found)

    async def _check_block(self, block: bytes) -> None:
        if block:
            self._found = await self._check(block, self._found)

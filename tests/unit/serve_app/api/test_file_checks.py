"""Large blocks of lines are checked apart from the ingress, few at a time, and small ones in a thread."""

import asyncio
import threading

import pytest

from registry.errors import Unavailable
from registry.file_records import FileCheck
from serve_app.api.file_checks import BYTES_IN_A_THREAD, TASKS_AT_ONCE, ChecksElsewhere, FileInProgress

LARGE = b"{\n" * (BYTES_IN_A_THREAD // 2 + 1)
SMALL = b"{\n"
DONE = FileCheck(num_lines=7, errors=("line 7: wrong",))


class Apart:
    """Processes that check blocks when a test lets them."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.may_check = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, block: bytes, before: FileCheck) -> FileCheck:
        self.blocks.append(block)
        await self.may_check.wait()
        if self.error is not None:
            raise self.error
        return DONE


@pytest.fixture
async def apart() -> Apart:
    return Apart()


async def test_small_block_is_checked_here_and_off_the_event_loop(apart: Apart) -> None:
    threads: list[threading.Thread] = []

    class Noticed(bytes):
        def split(self, *arguments: object) -> list[bytes]:
            threads.append(threading.current_thread())
            return [b"{", b""]

    found = await ChecksElsewhere(apart)(Noticed(SMALL), FileCheck())
    assert found.errors == ("line 1: the line is not valid JSON",)
    assert threads and threading.main_thread() not in threads
    assert apart.blocks == []


async def test_large_blocks_are_checked_apart_and_few_at_a_time(apart: Apart) -> None:
    checks = ChecksElsewhere(apart)
    running = [asyncio.create_task(checks(LARGE, FileCheck())) for _ in range(TASKS_AT_ONCE + 2)]
    small = await checks(SMALL, FileCheck())
    assert small.num_lines == 1
    assert apart.blocks == [LARGE] * TASKS_AT_ONCE
    apart.may_check.set()
    assert await asyncio.gather(*running) == [DONE] * len(running)


async def test_process_that_dies_makes_room_for_the_next_one(apart: Apart) -> None:
    checks = ChecksElsewhere(apart)
    apart.may_check.set()
    apart.error = Unavailable("it died")
    for _ in range(TASKS_AT_ONCE + 1):
        with pytest.raises(Unavailable):
            await checks(LARGE, FileCheck())
    apart.error = None
    assert await checks(LARGE, FileCheck()) == DONE


async def test_lines_are_numbered_across_parts(apart: Apart) -> None:
    file = FileInProgress(ChecksElsewhere(apart))
    await file.add(b"{\n\n{")
    found = await file.finish(b"\n\n[]")
    assert found.num_lines == 5
    assert [error.partition(":")[0] for error in found.errors] == ["line 1", "line 3", "line 5"]

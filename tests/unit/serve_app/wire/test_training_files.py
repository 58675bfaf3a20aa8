"""Files are cut into lines, wherever their pieces end, and errors have the numbers of the lines."""

import json
from collections.abc import Iterator

import pytest

from registry.errors import InvalidRequest
from registry.file_records import FileCheck, FileFormat
from registry.records import Example, Pair
from serve_app.wire.training_files import (
    EMPTY,
    MAX_ERRORS,
    WholeLines,
    check_block,
    check_end,
    numbered_records,
)
from serve_app.wire.training_lines import MAX_LINE_BYTES

ASK = {"role": "user", "content": "Name a fruit: \u4e2d"}
SAY = {"role": "assistant", "content": "Mango."}
CONVERSATION = json.dumps({"messages": [ASK, SAY]}, ensure_ascii=False).encode()
PREFERENCE = json.dumps(
    {"input": {"messages": [ASK]}, "preferred_output": [SAY], "non_preferred_output": [SAY]}
).encode()


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def check(content: bytes, size: int = 2**20) -> FileCheck:
    lines, found = WholeLines(), FileCheck()
    for piece in pieces(content, size):
        found = check_block(lines.add(piece), found)
    return check_end(check_block(lines.end(), found))


@pytest.mark.parametrize("size", [1, 7, len(CONVERSATION), len(CONVERSATION) + 1, 2**20])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\r\n"])
def test_pieces_of_every_size_give_the_same_records(size: int, end: bytes) -> None:
    content = b"\xef\xbb\xbf" + b"\n".join([CONVERSATION] * 3) + end
    records = list(numbered_records(pieces(content, size)))
    assert [number for number, _ in records] == [1, 2, 3]
    assert all(isinstance(record, Example) for _, record in records)
    found = check(content, size)
    assert (found.format, found.num_records, found.errors) == (FileFormat.CONVERSATIONS, 3, ())


def test_preferences_are_pairs() -> None:
    content = PREFERENCE + b"\n\n" + PREFERENCE
    records = list(numbered_records([content]))
    assert [number for number, _ in records] == [1, 3]
    assert all(isinstance(record, Pair) for _, record in records)
    assert check(content).format is FileFormat.PREFERENCES


def test_errors_have_the_numbers_of_their_lines() -> None:
    content = b"\n".join([CONVERSATION, b"", b"{", CONVERSATION, PREFERENCE])
    found = check(content, size=11)
    assert (found.num_lines, found.num_records) == (5, 2)
    assert found.errors == (
        "line 3: the line is not valid JSON",
        "line 5: all lines must have the same form: conversations, as the first line has it",
    )


def test_only_the_first_errors_are_kept() -> None:
    found = check(b"{\n" * 1000, size=100)
    assert [error.partition(":")[0] for error in found.errors] == [
        f"line {number}" for number in range(1, MAX_ERRORS + 1)
    ]


def test_line_of_any_length_is_one_error_and_never_whole_in_memory() -> None:
    lines = WholeLines()
    num_pieces = 3 * MAX_LINE_BYTES // 2**20
    blocks = [lines.add(b"x" * 2**20) for _ in range(num_pieces)]
    assert blocks == [b""] * num_pieces
    block = lines.add(b"x\n" + CONVERSATION + b"\n")
    assert len(block) < MAX_LINE_BYTES + 1000
    found = check_block(block, FileCheck())
    assert (found.num_lines, found.num_records) == (2, 1)
    assert found.errors == (f"line 1: the line is over {MAX_LINE_BYTES} bytes",)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_file_without_records_is_an_error(content: bytes) -> None:
    assert check(content).errors == (EMPTY,)
    with pytest.raises(InvalidRequest, match="no lines"):
        list(numbered_records([content]))


def test_reader_names_the_parameter_and_the_line() -> None:
    reader = numbered_records([CONVERSATION + b"\n" + b"{"], "validation_file")
    next(reader)
    with pytest.raises(InvalidRequest) as refused:
        next(reader)
    assert refused.value.message == "validation_file: line 2: the line is not valid JSON"
    assert refused.value.param == "validation_file"

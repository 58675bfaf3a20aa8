"""Training files, line by line, without one of them being in memory as a whole.

    bytes --WholeLines--> blocks of whole lines --check_block--> FileCheck: the first errors
          --numbered_records--> (line, Example), (line, Example), ... or the same with Pair

All lines of a file have the same form. Empty lines are skipped.
"""

from collections.abc import Iterable, Iterator

from registry.errors import InvalidRequest
from registry.file_records import FileCheck, FileFormat
from registry.records import Example, Pair
from serve_app.wire.training_lines import (
    MAX_LINE_BYTES,
    BadLine,
    ConversationLine,
    PreferenceLine,
    parse_line,
)

MAX_ERRORS = 5
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
EMPTY = "the file has no lines with a conversation or a preference"
MIXED = "all lines must have the same form: {format}, as the first line has it"


class WholeLines:
    """Cuts bytes into blocks of whole lines. It keeps at most one line, and of a longer one the beginning."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_first = True

    def add(self, piece: bytes) -> bytes:
        """Returns the lines that have become whole. There may be none."""
        lines, newline, rest = piece.rpartition(b"\n")
        if not newline:
            self._keep(self._rest + piece)
            return b""
        block = self._rest + lines + newline
        self._rest = b""
        self._keep(rest)
        return self._without_mark(block)

    def end(self) -> bytes:
        """Returns the last line, if it has no newline at its end."""
        block, self._rest = self._rest, b""
        return self._without_mark(block)

    def _keep(self, rest: bytes) -> None:
        self._rest = rest[: MAX_LINE_BYTES + 1]  # which is too long already

    def _without_mark(self, block: bytes) -> bytes:
        if self._is_first and block:
            self._is_first = False
            return block.removeprefix(BYTE_ORDER_MARK)
        return block


def check_block(block: bytes, before: FileCheck) -> FileCheck:
    """Returns the check of all lines so far, of which `before` is the check of those before the block."""
    num_lines, num_records, format_ = before.num_lines, before.num_records, before.format
    errors = list(before.errors)
    for line in _lines(block):
        if len(errors) == MAX_ERRORS:
            break
        num_lines += 1
        if not line.strip():
            continue
        try:
            format_ = _format_of(parse_line(line), format_)
            num_records += 1
        except BadLine as error:
            errors.append(f"line {num_lines}: {error}")
    return FileCheck(format=format_, num_lines=num_lines, num_records=num_records, errors=tuple(errors))


def check_end(before: FileCheck) -> FileCheck:
    """Returns the check of a file after its last block."""
    if before.num_records or before.errors:
        return before
    return before.model_copy(update={"errors": (EMPTY,)})


def numbered_records(
    chunks: Iterable[bytes], param: str = "training_file"
) -> Iterator[tuple[int, Example | Pair]]:
    """Yields the records of a file, each after the number of its line. The bytes come in pieces of any size.

    Raises: InvalidRequest: at the first wrong line, with its number, or at the end of a file without records.
    """
    number, format_ = 0, None
    for block in _blocks(chunks):
        for line in _lines(block):
            number += 1
            if not line.strip():
                continue
            try:
                parsed = parse_line(line)
                format_ = _format_of(parsed, format_)
            except BadLine as error:
                raise InvalidRequest(f"{param}: line {number}: {error}", param) from None
            yield number, parsed.record()
    if format_ is None:
        raise InvalidRequest(f"{param}: {EMPTY}", param)


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    lines = WholeLines()
    for chunk in chunks:
        yield lines.add(chunk)
    yield lines.end()


def _lines(block: bytes) -> Iterator[bytes]:
    lines = block.split(b"\n")
    if not lines[-1]:
        del lines[-1]
    yield from lines


def _format_of(line: ConversationLine | PreferenceLine, expected: FileFormat | None) -> FileFormat:
    """Returns the format of a line. Raises: BadLine: the lines before have another one."""
    found = FileFormat.CONVERSATIONS if isinstance(line, ConversationLine) else FileFormat.PREFERENCES
    if expected not in (None, found):
        raise BadLine(MIXED.format(format=expected))
    return found

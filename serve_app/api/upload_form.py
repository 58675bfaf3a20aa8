"""Reads the form of a file upload in pieces, as they arrive. Nobody holds the file as a whole.

    pieces of the body -> write -> fields, and the bytes of the file that `take` has not taken yet

The fields come in any order. A field that is not known, a second file and a form without its end are refused.
python-multipart finds the borders; what it calls back is bounded here.
"""

from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from registry.errors import InvalidRequest
from registry.file_records import FilePurpose
from serve_app.wire.files import MAX_FILENAME_CHARACTERS

FILE: Final = "file"
PURPOSE: Final = "purpose"
FORM_BYTES = 2**14
"""The size of what a form may have beside the file."""
MAX_FIELD_BYTES = 1024
MAX_BORDERS = 16
"""The number of times that the border between fields may occur, with those in the file that are none.

The parser looks at each of them byte by byte, so a file of nothing else would hold the event loop.
"""
MAX_CONTENT_TYPE_CHARACTERS = 300
NOT_A_FORM = "send `multipart/form-data` with the fields `purpose` and `file`"
UNREADABLE = "the form cannot be read"
REASONS = {"expires_after": "a file stays until you delete it"}
"""Fields of OpenAI's API that are refused, each with a reason."""


class UploadForm:
    """The form of one upload. Its methods raise InvalidRequest."""

    def __init__(self, content_type: str | None) -> None:
        if len(content_type or "") > MAX_CONTENT_TYPE_CHARACTERS:  # reading it takes quadratic time
            raise InvalidRequest(NOT_A_FORM)
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind.lower() != b"multipart/form-data" or not boundary:
            raise InvalidRequest(NOT_A_FORM)
        self.filename: str | None = None
        self.content = bytearray()
        self._purpose: str | None = None
        self._name = ""
        self._field = bytearray()
        self._header = b"", b""
        self._disposition = b""
        self._has_ended = False
        self._border = b"\r\n--" + boundary
        self._num_borders = 0
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError:
            raise InvalidRequest(NOT_A_FORM) from None

    def write(self, piece: bytes) -> None:
        self._num_borders += piece.count(self._border)
        if self._num_borders > MAX_BORDERS:
            raise InvalidRequest("the boundary of the form occurs in the file: choose another one")
        try:
            self._parser.write(piece)
        except FormParserError:
            raise InvalidRequest(UNREADABLE) from None

    def take(self) -> bytes:
        """Returns the bytes of the file that were not taken yet."""
        taken = bytes(self.content)
        self.content.clear()
        return taken

    def finish(self) -> str:
        """Checks that the form has come to its end, and returns the name of the file."""
        if not self._has_ended:
            raise InvalidRequest("the form ends too early")
        if self._purpose is None:
            raise _wrong(PURPOSE, "Field required")
        if self.filename is None:
            raise _wrong(FILE, "Field required")
        return self.filename

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        name, value = self._header
        self._header = name + data[start:end], value

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        name, value = self._header
        self._header = name, value + data[start:end]

    def _on_header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._disposition = b""
        self._name = options.get(b"name", b"").decode(errors="replace")
        if not self._name:
            raise InvalidRequest(UNREADABLE)
        if self._name not in (FILE, PURPOSE):
            name = self._name.partition("[")[0] or self._name
            raise _wrong(name[:MAX_FILENAME_CHARACTERS], REASONS.get(name, "Extra inputs are not permitted"))
        if self._name == PURPOSE and self._purpose is not None:
            raise _wrong(PURPOSE, "give it once")
        if self._name == FILE:
            self._begin_file(options.get(b"filename"))

    def _begin_file(self, filename: bytes | None) -> None:
        if self.filename is not None:
            raise _wrong(FILE, "send one file")
        name = (filename or b"").decode(errors="replace")
        if not name:
            raise _wrong(FILE, "send the bytes of a file with a file name")
        if len(name) > MAX_FILENAME_CHARACTERS or not name.isprintable():
            raise _wrong(FILE, f"the file name has at most {MAX_FILENAME_CHARACTERS} printable characters")
        self.filename = name

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self.content += data[start:end]
            return
        self._field += data[start:end]
        if len(self._field) > MAX_FIELD_BYTES:
            raise _wrong(self._name, f"the field has at most {MAX_FIELD_BYTES} bytes")

    def _on_part_end(self) -> None:
        if self._name == PURPOSE:
            self._purpose = _checked_purpose(self._field.decode(errors="replace"))
            self._field.clear()

    def _on_end(self) -> None:
        self._has_ended = True


def _checked_purpose(purpose: str) -> str:
    if purpose == FilePurpose.FINE_TUNE_RESULTS:
        raise _wrong(PURPOSE, f"only the service makes files with the purpose `{purpose}`")
    if purpose != FilePurpose.FINE_TUNE:
        raise _wrong(PURPOSE, f"the only purpose of an upload is `{FilePurpose.FINE_TUNE}`")
    return purpose


def _wrong(field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {reason}", field)

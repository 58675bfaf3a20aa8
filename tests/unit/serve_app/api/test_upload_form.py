"""The form of an upload is read in pieces of any size, and everything in it has a bound."""

import pytest

from registry.errors import InvalidRequest
from serve_app.api.upload_form import MAX_FIELD_BYTES, NOT_A_FORM, UNREADABLE, UploadForm

BOUNDARY = "d41d8cd98f00b204"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
PURPOSE = 'name="purpose"'
FILE = 'name="file"; filename="a.jsonl"'


def form_of(*fields: tuple[str, bytes], end: bytes = f"--{BOUNDARY}--\r\n".encode()) -> bytes:
    parts = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {field}\r\n\r\n".encode() + value + b"\r\n"
        for field, value in fields
    ]
    return b"".join(parts) + end


GOOD = (PURPOSE, b"fine-tune"), (FILE, b"{}\n")


def read(body: bytes, size: int = 2**16) -> tuple[str, bytes]:
    """The name and the bytes of the file in a form that comes in pieces."""
    form, content = UploadForm(CONTENT_TYPE), b""
    for start in range(0, len(body), size):
        form.write(body[start : start + size])
        content += form.take()
    return form.finish(), content


def refusal(body: bytes) -> tuple[str, str | None]:
    with pytest.raises(InvalidRequest) as refused:
        read(body)
    return refused.value.message, refused.value.param


@pytest.mark.parametrize("size", [1, 3, 64, 2**16])
@pytest.mark.parametrize("content", [b"", b"\r\n--", f"\r\n--{BOUNDARY}x\r".encode(), bytes(range(256)) * 40])
def test_file_arrives_as_it_was_sent(size: int, content: bytes) -> None:
    for fields in ((GOOD[0], (FILE, content)), ((FILE, content), GOOD[0])):
        assert read(form_of(*fields), size) == ("a.jsonl", content)


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("..\\..\\etc\\passwd", "..\\..\\etc\\passwd"),
        ("../../files.json", "../../files.json"),
        ("\u4e2d\u6587.jsonl", "\u4e2d\u6587.jsonl"),
    ],
)
def test_file_name_is_only_text(sent: str, name: str) -> None:
    field = f'name="file"; filename="{sent}"'
    assert read(form_of(GOOD[0], (field, b"{}")))[0] == name


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/json", "multipart/form-data", "multipart/form-data; boundary=",
     f"{CONTENT_TYPE}; {'x' * 300}", f"multipart/form-data; boundary={'b' * 290}"],
)  # fmt: skip
def test_other_body_is_refused(content_type: str | None) -> None:
    with pytest.raises(InvalidRequest, match=NOT_A_FORM):
        UploadForm(content_type)


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (form_of(GOOD[1]), "purpose: Field required", "purpose"),
        (form_of(GOOD[0]), "file: Field required", "file"),
        (form_of(*GOOD, GOOD[1]), "file: send one file", "file"),
        (form_of(*GOOD, GOOD[0]), "purpose: give it once", "purpose"),
        (form_of(GOOD[0], ('name="file"', b"{}")), "file: send the bytes of a file with a file name", "file"),
        (
            form_of(('name="file[0]"; filename="a"', b"")),
            "file: Extra inputs are not permitted",
            "file",
        ),
        (form_of(('name="purpose[]"', b"batch")), "purpose: Extra inputs are not permitted", "purpose"),
        (form_of(('name="model"', b"")), "model: Extra inputs are not permitted", "model"),
        (
            form_of(('name="expires_after[anchor]"', b"created_at")),
            "expires_after: a file stays until you delete it",
            "expires_after",
        ),
        (
            form_of((PURPOSE, b"fine-tune-results")),
            "purpose: only the service makes files with the purpose `fine-tune-results`",
            "purpose",
        ),
        (form_of((PURPOSE, b"batch")), "purpose: the only purpose of an upload is `fine-tune`", "purpose"),
        (
            form_of((PURPOSE, b"x" * (MAX_FIELD_BYTES + 1))),
            f"purpose: the field has at most {MAX_FIELD_BYTES} bytes",
            "purpose",
        ),
        (
            form_of((f'name="file"; filename="{"x" * 256}"', b"")),
            "file: the file name has at most 255 printable characters",
            "file",
        ),
        (
            form_of(('name="file"; filename="a\x07b"', b"")),
            "file: the file name has at most 255 printable characters",
            "file",
        ),
        (form_of(*GOOD, end=b""), "the form ends too early", None),
        (form_of(('filename="a"', b"")), UNREADABLE, None),
        (b"{}", UNREADABLE, None),
        (b"", "the form ends too early", None),
    ],
)
def test_wrong_form_is_refused(body: bytes, message: str, param: str | None) -> None:
    assert refusal(body) == (message, param)


def test_file_of_borders_is_refused() -> None:
    borders = f"\r\n--{BOUNDARY}x".encode()
    assert read(form_of(GOOD[0], (FILE, borders * 10))) == ("a.jsonl", borders * 10)
    assert refusal(form_of(GOOD[0], (FILE, borders * 1000)))[0].startswith("the boundary of the form occurs")


def test_endless_head_of_a_part_is_refused() -> None:
    assert refusal(f"--{BOUNDARY}\r\nX-Filler: ".encode() + b"x" * 10**6)[0] == UNREADABLE

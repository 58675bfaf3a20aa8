"""Files over HTTP: larger than any other body, in parts, within a user's room, and never another user's."""

import json
import time
from typing import Any

import httpx
import pytest

from registry.file_lists import PREFIX
from registry.file_uploads import PART_BYTES
from registry.unfinished_files import PREFIX as MARKS
from tests.serve.conftest import SMALL_LIMITS
from tests.support.account import Account, assert_error
from tests.support.connection import connected
from tests.support.service import MAX_REQUEST_BYTES, Service
from tests.support.waiting import wait_until

PATH = "/openai/v1/files"
NUM_EXAMPLES = 10_000
A_FILE: dict[str, Any] = {"files": {"file": ("a", b"{}")}}
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'


def line(number: int, num_filler: int = 0) -> bytes:
    said = [
        {"role": "user", "content": f"{number}?"},
        {"role": "assistant", "content": "x" * num_filler + "!"},
    ]
    return json.dumps({"messages": said}).encode() + b"\n"


def upload(
    account: Account, content: bytes, purpose: str = "fine-tune", name: str = "a.jsonl"
) -> httpx.Response:
    return account.http.post(PATH, data={"purpose": purpose}, files={"file": (name, content)})


def uploaded(account: Account, content: bytes) -> dict[str, Any]:
    answer = upload(account, content)
    assert answer.status_code == 200, answer.text
    return answer.json()


def traces(service: Service, account: Account) -> list[str]:
    """The keys of the files and marks of a user."""
    return [key for kind in (PREFIX, MARKS) for key in service.store.list(f"{kind}{account.user}/")]


def test_ten_thousand_examples_are_uploaded_checked_and_downloaded(alice: Account) -> None:
    num_filler = PART_BYTES // NUM_EXAMPLES
    content = b"".join(line(number, num_filler) for number in range(NUM_EXAMPLES))
    assert len(content) > max(PART_BYTES, MAX_REQUEST_BYTES)
    before = int(time.time())
    file = uploaded(alice, content)
    assert file.pop("id").startswith("file-")
    assert before <= file.pop("created_at") <= time.time()
    assert file == {
        "object": "file",
        "bytes": len(content),
        "filename": "a.jsonl",
        "purpose": "fine-tune",
        "status": "processed",
        "status_details": None,
        "expires_at": None,
    }
    (listed,) = alice.http.get(PATH).json()["data"]
    answer = alice.http.get(f"{PATH}/{listed['id']}/content")
    assert answer.content == content
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_wrong_lines_of_a_large_file_have_their_numbers(alice: Account) -> None:
    good = line(0)
    num_good = 2**19 // len(good)
    file = uploaded(alice, good * num_good + b"{\n" + good)
    assert (file["status"], file["status_details"]) == (
        "error",
        f"line {num_good + 1}: the line is not valid JSON",
    )


def test_file_of_another_user_does_not_exist(alice: Account, bob: Account) -> None:
    file_id = uploaded(alice, line(0))["id"]
    unknown = f"file-{'0' * 32}"
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        answers = [bob.http.request(method, f"{PATH}/{each}{path}") for each in (file_id, unknown)]
        for answer in answers:
            assert_error(answer, 404, "file_not_found")
        assert answers[0].json() == answers[1].json()
    assert bob.http.get(PATH).json()["data"] == []
    assert_error(bob.http.get(PATH, params={"after": file_id}), 404, "file_not_found", "after")
    assert alice.http.get(f"{PATH}/{file_id}").json()["id"] == file_id


def test_files_are_listed_in_pages(alice: Account) -> None:
    ids = [uploaded(alice, line(number))["id"] for number in range(3)]
    page = alice.http.get(PATH, params={"limit": 2}).json()
    assert ([file["id"] for file in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    assert (page["object"], page["first_id"], page["last_id"]) == ("list", ids[2], ids[1])
    page = alice.http.get(PATH, params={"limit": 2, "after": page["last_id"]}).json()
    assert ([file["id"] for file in page["data"]], page["has_more"]) == ([ids[0]], False)
    page = alice.http.get(PATH, params={"order": "asc", "purpose": "fine-tune"}).json()
    assert [file["id"] for file in page["data"]] == ids
    page = alice.http.get(PATH, params={"purpose": "fine-tune-results"}).json()
    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_deleted_file_leaves_nothing_and_makes_room(service: Service, alice: Account) -> None:
    ids = [uploaded(alice, line(number))["id"] for number in range(SMALL_LIMITS.max_files_per_user)]
    assert_error(upload(alice, line(9)), 429, "quota_exceeded")
    answer = alice.http.delete(f"{PATH}/{ids[0]}")
    assert answer.json() == {"id": ids[0], "object": "file", "deleted": True}
    assert_error(alice.http.get(f"{PATH}/{ids[0]}/content"), 404, "file_not_found")
    uploaded(alice, line(9))
    keys = traces(service, alice)
    assert len(keys) == 1 + len(ids) and f"{PREFIX}{alice.user}/{ids[0]}" not in keys


def test_file_that_exceeds_the_room_is_refused_before_it_is_read(service: Service, alice: Account) -> None:
    size = SMALL_LIMITS.max_file_bytes_per_user + 2**20
    with connected(service) as connection:
        connection.send(_head(alice, f"Content-Length: {size}"))
        connection.send(FORM + b"x" * 2**15)
        answer = connection.answer()
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (429, "quota_exceeded")
    assert traces(service, alice) == []


def test_file_that_is_too_large_is_refused_before_it_is_read(service: Service, alice: Account) -> None:
    size = service.settings.ingress.max_file_bytes + 2**20
    with connected(service) as connection:
        connection.send(_head(alice, f"Content-Length: {size}"))
        connection.send(FORM + b"x" * 2**15)
        answer = connection.answer()
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (413, "request_too_large")


def test_upload_without_a_valid_key_is_refused_before_it_is_read(service: Service, alice: Account) -> None:
    with connected(service) as connection:
        connection.send(_head(alice, f"Content-Length: {2**28}").replace(alice.key.encode(), b"tiger_x"))
        connection.send(FORM + b"x" * 2**15)
        assert connection.answer().status == 401


def test_nothing_stays_of_an_upload_whose_client_vanishes(service: Service, alice: Account) -> None:
    with connected(service) as connection:
        connection.send(_head(alice, "Transfer-Encoding: chunked"))
        connection.send(_chunk(FORM + b"x" * (PART_BYTES + 2**20)))
        wait_until(lambda: traces(service, alice) != [], 20, pause_s=0.05)
        connection.vanish()
        wait_until(lambda: traces(service, alice) == [], 20, pause_s=0.05)
    uploaded(alice, line(0))


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"json": {"purpose": "fine-tune"}}, None),
        ({"data": {"purpose": "fine-tune"}}, None),
        ({"data": {"purpose": "batch"}, **A_FILE}, "purpose"),
        ({"data": {"purpose": "fine-tune-results"}, **A_FILE}, "purpose"),
        ({"data": {"purpose": "fine-tune"}, "files": {"file": ("a", b"")}}, "file"),
        ({"data": {"purpose": "fine-tune", "expires_after[seconds]": "3600"}, **A_FILE}, "expires_after"),
        (A_FILE, "purpose"),
    ],
)
def test_wrong_form_is_refused_as_openai_does(
    service: Service, alice: Account, request_: dict[str, Any], param: str | None
) -> None:
    assert_error(alice.http.post(PATH, **request_), 400, "invalid_request", param)
    wait_until(lambda: traces(service, alice) == [], 20, pause_s=0.05)


def _head(account: Account, *headers: str) -> bytes:
    lines = [
        f"POST {PATH} HTTP/1.1",
        "Host: tiger",
        f"Authorization: Bearer {account.key}",
        "Content-Type: multipart/form-data; boundary=b",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"

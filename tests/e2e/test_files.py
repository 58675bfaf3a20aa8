"""Files with OpenAI's own client, as it is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.support.system import CALL_TIMEOUT_S, Client, System

LINE = json.dumps(
    {"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "Tiger."}]}
).encode()


@pytest.fixture(scope="module")
def teacher(system: System) -> Client:
    return system.client("teacher")


@pytest.fixture(scope="module")
def api(system: System, teacher: Client) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{system.url}/openai/v1", api_key=teacher.key, timeout=CALL_TIMEOUT_S, max_retries=0
    ) as api:
        yield api


def test_file_is_uploaded_listed_read_and_deleted(api: OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_bytes(LINE + b"\n" + LINE)
    created = api.files.create(file=path, purpose="fine-tune")
    assert (created.object, created.bytes, created.filename) == ("file", len(LINE) * 2 + 1, path.name)
    assert (created.purpose, created.status, created.status_details) == ("fine-tune", "processed", None)
    assert api.files.wait_for_processing(created.id) == created
    assert api.files.retrieve(created.id) == created
    assert api.files.content(created.id).read() == path.read_bytes()

    others = [api.files.create(file=(f"{n}.jsonl", LINE), purpose="fine-tune") for n in range(2)]
    paged = api.files.list(limit=1, order="asc")
    assert list(paged) == [created, *others]
    for file in api.files.list():
        assert api.files.delete(file.id).deleted
    assert list(api.files.list()) == []


def test_errors_are_those_of_the_client(api: OpenAI) -> None:
    wrong: Any = "assistants"
    with pytest.raises(openai.BadRequestError) as refused:
        api.files.create(file=("a.jsonl", LINE), purpose=wrong)
    assert refused.value.param == "purpose"
    with pytest.raises(openai.NotFoundError) as missing:
        api.files.retrieve("file-unknown")
    assert missing.value.code == "file_not_found"
    useless = api.files.create(file=("a.jsonl", b'{"messages": []}'), purpose="fine-tune")
    assert api.files.wait_for_processing(useless.id).status == "error"
    assert useless.status_details is not None and useless.status_details.startswith("line 1: messages: ")

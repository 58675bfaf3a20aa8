"""Files become the request of a training. Large ones are read apart, and errors have the numbers of lines."""

import hashlib
import json
import pickle

import pytest

from registry.errors import ContextLengthExceeded, FileNotFound, InvalidRequest, NoLearningSignal
from registry.file_lists import content_key
from registry.file_records import FilePurpose, FileRecord
from registry.records import Hyperparameters, JobRequest, Method, utc_now
from registry.store import ObjectStore
from serve_app.api.file_checks import BYTES_IN_A_THREAD
from serve_app.api.fine_tuning.file_reading import FilesElsewhere, JobFile, ReadJob, read_files
from serve_app.api.fine_tuning.packed_request import PackedRequest
from tests.support.memory_s3 import memory_store

USER = "alice"
EMPTY = JobRequest(
    method=Method.SUPERVISED,
    seed=7,
    keeps_epochs=True,
    hyperparameters=Hyperparameters(learning_rate=1e-4, learning_steps=2, beta=0, epsilon=0, batch_size=1),
)
ASKED = [{"role": "user", "content": "Hi"}]


def conversation(answer: str) -> bytes:
    return json.dumps({"messages": [*ASKED, {"role": "assistant", "content": answer}]}).encode()


def preference(preferred: str, other: str) -> bytes:
    sides = {
        name: [{"role": "assistant", "content": text}]
        for name, text in (("preferred_output", preferred), ("non_preferred_output", other))
    }
    return json.dumps({"input": {"messages": ASKED}, **sides}).encode()


def stored(store: ObjectStore, *lines: bytes, param: str = "training_file") -> JobFile:
    content = b"\n".join(lines)
    record = FileRecord(
        id=f"file-{param}",
        filename="a.jsonl",
        purpose=FilePurpose.FINE_TUNE,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created=utc_now(),
    )
    store.put(content_key(USER, record.id), content)
    return JobFile(param, record)


def test_both_files_are_in_the_request_with_their_lines() -> None:
    store = memory_store()
    learned = stored(store, conversation("a"), b"", conversation("b"))
    measured = stored(store, b"", conversation("c"), param="validation_file")
    read = read_files(store, USER, EMPTY, (learned, measured))
    request: JobRequest = pickle.loads(pickle.dumps(PackedRequest(read.request)))
    assert [example.messages[-1].content for example in request.examples] == ["a", "b"]
    assert [example.messages[-1].content for example in request.validation_examples] == ["c"]
    assert (request.seed, request.keeps_epochs, request.hyperparameters) == (7, True, EMPTY.hyperparameters)
    assert read.lines == {"training_file": (1, 3), "validation_file": (2,)}


@pytest.mark.parametrize(
    ("param", "place"),
    [
        ("examples.1.messages", "training_file: line 3: messages: "),
        ("pairs.0.rejected", "training_file: line 1: non_preferred_output: "),
        ("pairs.0.messages.2.content", "training_file: line 1: input.messages.2.content: "),
        ("validation_examples.0.tools", "validation_file: line 2: tools: "),
        ("validation_pairs.0.preferred", "validation_file: line 2: preferred_output: "),
        ("examples", "training_file: "),
    ],
)
def test_error_about_a_record_names_the_line_of_the_file(param: str, place: str) -> None:
    read = ReadJob(b"", {"training_file": (1, 3), "validation_file": (2,)})
    found = read.with_line(ContextLengthExceeded("9 tokens; the model takes 8", param))
    assert isinstance(found, ContextLengthExceeded)
    assert found.message == f"{place}9 tokens; the model takes 8"
    assert found.param == place.partition(":")[0]


def test_error_about_something_else_stays_as_it_is() -> None:
    error = InvalidRequest("no", "model")
    assert ReadJob(b"", {}).with_line(error) is error


def test_wrong_line_and_deleted_file_are_refused_with_the_field() -> None:
    store = memory_store()
    learned = stored(store, conversation("a"), b"{")
    with pytest.raises(InvalidRequest) as refused:
        read_files(store, USER, EMPTY, (learned,))
    assert refused.value.args == ("training_file: line 2: the line is not valid JSON", "training_file")
    store.delete(content_key(USER, learned.record.id))
    with pytest.raises(FileNotFound) as missing:
        read_files(store, USER, EMPTY, (learned,))
    assert missing.value.param == "training_file"


def test_pairs_of_equal_sides_teach_nothing() -> None:
    store = memory_store()
    with pytest.raises(NoLearningSignal):
        read_files(store, USER, EMPTY, (stored(store, preference("a", "a")),))
    read = read_files(store, USER, EMPTY, (stored(store, preference("a", "a"), preference("a", "b")),))
    assert len(pickle.loads(read.request).pairs) == 2


def test_validation_pairs_of_equal_sides_are_refused_before_the_training_would_fail() -> None:
    store = memory_store()
    learned = stored(store, preference("a", "b"))
    measured = stored(store, preference("a", "a"), param="validation_file")
    with pytest.raises(NoLearningSignal) as refused:
        read_files(store, USER, EMPTY, (learned, measured))
    assert refused.value.param == "validation_file"
    measured = stored(store, preference("a", "a"), preference("a", "b"), param="validation_file")
    read = read_files(store, USER, EMPTY, (learned, measured))
    assert len(pickle.loads(read.request).validation_pairs) == 2


async def test_only_large_files_are_read_apart() -> None:
    store, calls = memory_store(), []

    async def apart(user: str, request: JobRequest, files: tuple[JobFile, ...]) -> ReadJob:
        calls.append(files)
        return ReadJob(b"apart", {})

    read = FilesElsewhere(store, apart)
    small = (stored(store, conversation("a")),)
    assert pickle.loads((await read(USER, EMPTY, small)).request).examples
    large = (stored(store, conversation("a" * BYTES_IN_A_THREAD)),)
    assert (await read(USER, EMPTY, large)).request == b"apart"
    assert calls == [large]

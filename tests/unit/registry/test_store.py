"""Objects and conditional writes on a real server. A client of our own makes the faults."""

import pickle
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from registry.client import build_client
from registry.errors import Unavailable
from registry.settings import StorageSettings
from registry.store import ObjectMissing, ObjectStore, StorageUnfit, WriteConflict
from tests.support.s3_clients import Faults, LaxClient, always
from tests.support.storage import free_port

WRITERS = 16


def race(work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in 16 threads at the same moment; returns results and WriteConflicts."""
    barrier = threading.Barrier(WRITERS)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        except WriteConflict as conflict:
            return conflict

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(run, range(WRITERS)))


def test_object_round_trip(store: ObjectStore) -> None:
    store.put("a/b", b"body")
    assert store.get("a/b").body == b"body"
    store.delete("a/b")
    store.delete("a/b")
    with pytest.raises(ObjectMissing):
        store.get("a/b")


def test_get_many_keeps_order_and_says_what_is_missing(store: ObjectStore) -> None:
    store.put("one", b"1")
    store.put("two", b"2")
    found = store.get_many(["two", "none", "one"])
    assert [stored.body if stored else None for stored in found] == [b"2", None, b"1"]


class Died(Exception):
    """This error takes the place of a process that ends."""


def dying_client(settings: StorageSettings, **options: Any) -> Any:
    """A client whose writes end after the headers.

    The server hears no more, as from a process that is killed.
    """

    def send_headers_only(request: Any, **_: Any) -> None:
        url = urlsplit(request.url)
        length = len(request.body) if isinstance(request.body, bytes) else request.headers["Content-Length"]
        headers = {**dict(request.headers.items()), "Host": url.netloc, "Content-Length": length}
        lines = [f"{name}: {_text(value)}" for name, value in headers.items() if name != "Expect"]
        with socket.create_connection((url.hostname, url.port)) as connection:
            connection.sendall("\r\n".join([f"PUT {url.path} HTTP/1.1", *lines, "", ""]).encode())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        raise Died

    client = build_client(settings, **options)
    client.meta.events.register("before-send.s3.PutObject", send_headers_only)
    return client


def _text(value: str | bytes | int) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("kind", ["put", "upload", "replace"])
def test_a_writer_that_dies_before_its_body_changes_nothing(
    store: ObjectStore, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"after")
    etag = store.create("key", b"before")
    dying = ObjectStore(store.settings, dying_client)
    writes: dict[str, Callable[[], Any]] = {
        "put": lambda: dying.put("key", b"after"),
        "upload": lambda: dying.upload_file(path, "key"),
        "replace": lambda: dying.replace("key", b"after", etag),
    }
    with pytest.raises(Died):
        writes[kind]()
    assert store.get("key").body == b"before"


def test_list_is_ordered_and_pages(store: ObjectStore) -> None:
    keys = [f"list/{number:03}/x" for number in range(25)]
    for key in reversed(keys):
        store.put(key, b"")
    store.put("lisp", b"")
    assert store.list("list/") == keys
    assert store.list("list/", limit=4) == keys[:4]
    assert store.list("list/", start_after=keys[9]) == keys[10:]
    assert store.list("list/", start_after="list/009/~", limit=2) == keys[10:12]
    assert store.list("list/00") == keys[:10]
    assert store.list("nothing/") == []


def test_kinds_are_the_first_parts_of_the_keys(store: ObjectStore) -> None:
    for key in ("keys/a.json", "keys/b.json", "keys-of/alice/a", "layout.json", "users/alice/models.json"):
        store.put(key, b"")
    # The server also shows the empty folder that the probe of the fixture has left.
    assert store.list_kinds() - {"probe/"} == {"keys/", "keys-of/", "users/"}


def test_list_goes_past_one_page_of_the_server(store: ObjectStore) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: store.put(f"many/{number:04}", b""), range(1010)))
    assert len(store.list("many/")) == 1010
    store.delete_prefix("many/")
    assert store.list("many/") == []


def test_delete_prefix_refuses_everything(store: ObjectStore) -> None:
    with pytest.raises(ValueError):
        store.delete_prefix("")


def test_prefix_keeps_stores_apart(store: ObjectStore) -> None:
    other = ObjectStore(store.settings.model_copy(update={"prefix": f"{store.settings.prefix}other/"}))
    other.put("key", b"other")
    assert other.list("") == ["key"]
    assert store.list("") == ["other/key"]
    with pytest.raises(ObjectMissing):
        store.get("key")


def test_files_and_server_side_copy(store: ObjectStore, tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.write_bytes(bytes(range(256)) * 2**16)
    store.upload_file(original, "file")
    store.copy("file", "copied")
    store.delete("file")
    store.download_file("copied", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == original.read_bytes()
    with pytest.raises(ObjectMissing):
        store.download_file("file", tmp_path / "gone")
    with pytest.raises(ObjectMissing):
        store.copy("file", "copied again")


def test_create_has_one_winner(store: ObjectStore) -> None:
    results = race(lambda number: store.create("key", f"writer {number}".encode()))
    winners = [number for number, result in enumerate(results) if isinstance(result, str)]
    assert len(winners) == 1
    assert store.get("key").body == f"writer {winners[0]}".encode()


def test_replace_wants_the_current_etag(store: ObjectStore) -> None:
    first = store.create("key", b"1")
    second = store.replace("key", b"2", first)
    with pytest.raises(WriteConflict):
        store.replace("key", b"3", first)
    assert store.get("key").etag == second
    with pytest.raises(WriteConflict):
        store.replace("missing", b"1", first)


def test_compare_and_swap_counts_exactly(store: ObjectStore) -> None:
    store.create("counter", b"0")

    def add_one(number: int) -> None:
        while True:
            current = store.get("counter")
            # The writer's number makes the body its own, as re-reading after a fault needs.
            count = int(current.body.split()[0]) + 1
            try:
                store.replace("counter", f"{count} {number}".encode(), current.etag)
                return
            except WriteConflict:
                continue

    assert race(add_one) == [None] * WRITERS
    assert int(store.get("counter").body.split()[0]) == WRITERS


def test_store_pickles_without_its_client(store: ObjectStore) -> None:
    store.put("key", b"body")
    copy = pickle.loads(pickle.dumps(store))
    assert copy.settings == store.settings
    assert copy.get("key").body == b"body"


def test_unreachable_storage_names_no_host(storage_credentials: Path) -> None:
    settings = StorageSettings(endpoint_url=f"http://127.0.0.1:{free_port()}", bucket="secret-bucket")
    store = ObjectStore(settings)
    for call in (lambda: store.get("k"), lambda: store.create("k", b""), lambda: store.list("k")):
        with pytest.raises(Unavailable) as caught:
            call()
        assert str(caught.value) == "storage cannot be reached"


def test_probe_names_refused_credentials(object_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    settings = StorageSettings(endpoint_url=object_server.endpoint_url)
    with pytest.raises(StorageUnfit, match="check the credentials"):
        ObjectStore(settings).probe()


@pytest.mark.parametrize("before", [True, False])
def test_conditional_write_survives_a_time_out(store: ObjectStore, before: bool) -> None:
    faults = Faults(store.settings, before=before)
    faulty = ObjectStore(store.settings, always(faults))
    etag = faulty.create("key", b"mine")
    assert (store.get("key").body, store.get("key").etag) == (b"mine", etag)
    faults.left = 1
    faulty.replace("key", b"mine too", etag)
    assert store.get("key").body == b"mine too"


def test_conditional_write_of_unknown_outcome_is_no_conflict(store: ObjectStore) -> None:
    store.create("key", b"of another writer")
    faulty = ObjectStore(store.settings, always(Faults(store.settings, before=True)))
    with pytest.raises(Unavailable):
        faulty.create("key", b"mine")


@pytest.mark.parametrize(
    ("ignored", "complaint"),
    [
        ("IfNoneMatch", "If-None-Match"),
        ("IfMatch", "stale etag"),
        ("implemented", "does not implement PutObject"),
    ],
)
def test_probe_refuses_an_endpoint_without_conditions(ignored: str, complaint: str) -> None:
    client = LaxClient(ignored)
    with pytest.raises(StorageUnfit, match=complaint):
        ObjectStore(StorageSettings(), always(client)).probe()
    assert client.objects == {}


def test_probe_leaves_nothing_behind(store: ObjectStore) -> None:
    client = LaxClient()
    ObjectStore(StorageSettings(), always(client)).probe()
    assert client.objects == {}
    store.probe()
    assert store.list("") == []

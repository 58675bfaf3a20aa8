"""The adapters of a replica, with a real object store, a real disk, and an engine that notes its calls."""

import asyncio
from pathlib import Path

import pytest

from registry.errors import ModelUnusable, RevisionNotFound, Unavailable
from registry.store import ObjectStore
from serve_app.model_server.adapters import Adapters, leased
from tests.support.adapter_engine import CountingRevisions, Engine, NotedLoads, Request
from tests.support.waiting import comes_true

UID = "uid-1"


@pytest.fixture
async def engine() -> Engine:
    return Engine()


@pytest.fixture
def revisions(store: ObjectStore, tmp_path: Path) -> CountingRevisions:
    """Revisions 1 and 2 of a model, and revision 1 of another."""
    made = tmp_path / "made"
    made.mkdir()
    (made / "adapter_config.json").write_text("{}")
    (made / "adapter_model.safetensors").write_bytes(b"weights")
    revisions = CountingRevisions(store)
    for uid, revision in ((UID, 1), (UID, 2), ("uid-10", 1)):
        revisions.publish(
            uid, made, revision=revision, parent_revision=0, job="job", base_model="base", metrics={}
        )
    return revisions


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    disk = tmp_path / "disk"
    disk.mkdir()
    return disk


@pytest.fixture
def noted() -> NotedLoads:
    return NotedLoads()


@pytest.fixture
def adapters(revisions: CountingRevisions, engine: Engine, disk: Path, noted: NotedLoads) -> Adapters:
    return Adapters(
        revisions,
        lambda: engine,
        lambda name, lora_id, path: Request(name, lora_id, Path(path)),
        engine.check,
        engine.probe,
        noted,
        disk,
    )


async def becomes_empty(disk: Path) -> None:
    await comes_true(lambda: not list(disk.iterdir()))


async def test_loaded_adapter_is_in_the_engine(adapters: Adapters, engine: Engine) -> None:
    adapter = await adapters.load(f"{UID}@1")
    assert engine.added == [adapter.request]
    assert adapter.request.name == f"{UID}@1#1"
    assert (adapter.directory / "adapter_model.safetensors").read_bytes() == b"weights"
    assert adapters.is_loaded(f"{UID}@1") and not adapters.is_loaded(f"{UID}@2")


async def test_callers_of_one_adapter_share_its_download(
    adapters: Adapters, revisions: CountingRevisions
) -> None:
    paths = await asyncio.gather(*(adapters.fetch(f"{UID}@1") for _ in range(10)))
    assert len(set(paths)) == 1
    await adapters.load(f"{UID}@1")
    assert revisions.num_fetches == 1


async def test_caller_that_goes_away_does_not_stop_the_download(
    adapters: Adapters, revisions: CountingRevisions
) -> None:
    first = asyncio.ensure_future(adapters.fetch(f"{UID}@1"))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(adapters.fetch(f"{UID}@1"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).is_dir()
    assert revisions.num_fetches == 1


async def test_request_during_the_load_downloads_nothing_more(
    adapters: Adapters, engine: Engine, revisions: CountingRevisions
) -> None:
    engine.is_open.clear()
    loading = asyncio.ensure_future(adapters.load(f"{UID}@1"))
    await engine.is_adding.wait()
    await adapters.fetch(f"{UID}@1")
    engine.is_open.set()
    await loading
    assert revisions.num_fetches == 1


async def test_changed_bytes_are_unavailable_and_leave_nothing(
    adapters: Adapters, revisions: CountingRevisions, store: ObjectStore, disk: Path
) -> None:
    manifest = revisions.manifest(UID, 1)
    assert manifest is not None
    key = next(file.key for file in manifest.files if file.name.endswith(".safetensors"))
    store.put(key, b"weightz")
    with pytest.raises(Unavailable) as raised:
        await adapters.load(f"{UID}@1")
    assert UID not in raised.value.message
    await becomes_empty(disk)
    store.put(key, b"weights")
    await adapters.load(f"{UID}@1")


async def test_absent_revision_is_not_found_and_leaves_nothing(adapters: Adapters, disk: Path) -> None:
    with pytest.raises(RevisionNotFound):
        await adapters.load(f"{UID}@3")
    await becomes_empty(disk)


async def test_adapter_that_the_engine_refuses_leaves_nothing(
    adapters: Adapters, engine: Engine, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="ray.serve")
    engine.is_broken = True
    with pytest.raises(RuntimeError):
        await adapters.load(f"{UID}@1")
    await becomes_empty(disk)
    assert not adapters.is_loaded(f"{UID}@1")
    await comes_true(lambda: "removed the failed load" in caplog.text)
    assert "freed" not in caplog.text, "it was never loaded"
    engine.is_broken = False
    adapter = await adapters.load(f"{UID}@1")
    adapter.evict()
    await comes_true(lambda: f"freed adapter {UID}@1" in caplog.text)


async def test_adapter_is_checked_and_tried_at_its_first_load_alone(
    adapters: Adapters, engine: Engine
) -> None:
    first = await adapters.load(f"{UID}@1")
    first.evict()
    await adapters.load(f"{UID}@1")
    assert (engine.num_checks, engine.probed) == (1, [first.request])
    await adapters.load(f"{UID}@2")
    assert (engine.num_checks, len(engine.probed)) == (2, 2)


async def test_adapter_that_fails_its_probe_is_taken_out_and_not_tried_again(
    adapters: Adapters, engine: Engine, revisions: CountingRevisions, disk: Path
) -> None:
    engine.is_sound = False
    for _ in range(3):
        with pytest.raises(ModelUnusable):
            await adapters.load(f"{UID}@1")
        with pytest.raises(ModelUnusable):
            await adapters.fetch(f"{UID}@1")
    assert (revisions.num_fetches, engine.num_checks, len(engine.added)) == (1, 1, 1)
    await becomes_empty(disk)
    assert engine.removed == [engine.added[0].lora_int_id]
    assert not adapters.is_loaded(f"{UID}@1")
    engine.is_sound = True
    await adapters.load(f"{UID}@2")


async def test_adapter_that_fails_its_check_never_reaches_the_engine(
    adapters: Adapters, engine: Engine, revisions: CountingRevisions, tmp_path: Path, disk: Path
) -> None:
    (tmp_path / "made" / "adapter_model.safetensors").write_bytes(b"bad")
    revisions.publish(
        UID, tmp_path / "made", revision=3, parent_revision=2, job="j", base_model="base", metrics={}
    )
    for _ in range(2):
        with pytest.raises(ModelUnusable):
            await adapters.load(f"{UID}@3")
    assert (revisions.num_fetches, engine.added) == (1, [])
    await becomes_empty(disk)


async def test_load_that_is_cancelled_leaves_nothing_and_says_nothing_of_the_adapter(
    adapters: Adapters, engine: Engine, disk: Path
) -> None:
    engine.is_open.clear()
    loading = asyncio.ensure_future(adapters.load(f"{UID}@1"))
    await engine.is_adding.wait()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    engine.is_open.set()
    await becomes_empty(disk)
    assert engine.removed == [1]
    await adapters.load(f"{UID}@1")


async def test_eviction_frees_engine_and_disk(adapters: Adapters, engine: Engine, disk: Path) -> None:
    adapter = await adapters.load(f"{UID}@1")
    adapter.evict()
    assert adapter.is_freed and not adapters.is_loaded(f"{UID}@1")
    await becomes_empty(disk)
    assert engine.removed == [adapter.request.lora_int_id]


async def test_eviction_waits_for_running_requests(adapters: Adapters, engine: Engine, disk: Path) -> None:
    adapter = await adapters.load(f"{UID}@1")
    async with leased(adapter) as first:
        async with leased(adapter):
            adapter.evict()
        assert first is not None and first.path.is_dir()
        assert engine.removed == []
        assert not adapters.is_loaded(f"{UID}@1"), "an evicted adapter takes new requests"
    await becomes_empty(disk)
    assert engine.removed == [adapter.request.lora_int_id]


async def test_failed_request_gives_its_lease_back(adapters: Adapters, disk: Path) -> None:
    adapter = await adapters.load(f"{UID}@1")
    with pytest.raises(RuntimeError, match="client"):
        async with leased(adapter):
            raise RuntimeError("the client went away")
    adapter.evict()
    await becomes_empty(disk)


async def test_eviction_by_serve_comes_from_another_thread(
    adapters: Adapters, engine: Engine, disk: Path
) -> None:
    """Serve's LRU calls `__del__` in a thread, and the interpreter calls it again."""
    adapter = await adapters.load(f"{UID}@1")
    await asyncio.to_thread(adapter.__del__)
    await becomes_empty(disk)
    adapter.__del__()
    await asyncio.sleep(0)
    assert engine.removed == [adapter.request.lora_int_id]


async def test_evicting_twice_frees_once(adapters: Adapters, engine: Engine, disk: Path) -> None:
    adapter = await adapters.load(f"{UID}@1")
    adapter.evict()
    adapter.evict()
    await becomes_empty(disk)
    assert len(engine.removed) == 1


async def test_reload_meets_nothing_of_the_load_before(adapters: Adapters, engine: Engine) -> None:
    first = await adapters.load(f"{UID}@1")
    async with leased(first):
        first.evict()
        second = await adapters.load(f"{UID}@1")
        assert first.request.lora_int_id != second.request.lora_int_id
        assert first.request.name != second.request.name, "vLLM would take them for one"
        assert first.directory != second.directory
    assert adapters.is_loaded(f"{UID}@1"), "freeing the first took the second"
    await comes_true(lambda: bool(engine.removed))
    assert engine.removed == [first.request.lora_int_id]
    assert second.directory.is_dir()


async def test_evict_model_takes_its_adapters_only(adapters: Adapters, engine: Engine) -> None:
    loaded = [await adapters.load(adapter_id) for adapter_id in (f"{UID}@1", f"{UID}@2", "uid-10@1")]
    adapters.evict_model(UID)
    assert [adapter.is_freed for adapter in loaded] == [True, True, False]
    assert adapters.is_loaded("uid-10@1")


async def test_base_model_needs_no_lease() -> None:
    async with leased(None) as request:
        assert request is None


async def test_loads_and_evictions_are_told_once(
    adapters: Adapters, engine: Engine, noted: NotedLoads
) -> None:
    first = await adapters.load(f"{UID}@1")
    await adapters.load(f"{UID}@2")
    first.evict()
    first.evict()
    assert (noted.loads, noted.num_evicted) == ([True, True], 1)
    adapters.evict_model(UID)
    assert noted.num_evicted == 2
    engine.is_broken = True
    with pytest.raises(RuntimeError):
        await adapters.load("uid-10@1")
    assert (noted.loads, noted.num_evicted) == ([True, True, False], 2)

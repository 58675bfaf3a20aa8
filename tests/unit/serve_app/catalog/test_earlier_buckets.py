"""Buckets of earlier releases, which this release opens: nothing that they have is lost."""

from pathlib import Path

import pytest

from registry.jobs import Jobs
from registry.keys import hash_key
from registry.layout import LAYOUT_KEY, UPGRADES, BucketLayout, Layout
from registry.records import JobStatus, utc_now
from registry.revisions import Revisions
from registry.store import ObjectStore, StorageUnfit
from registry.usage import UsageParts
from serve_app.catalog.catalog import Catalog
from serve_app.settings import Settings
from tests.support.bucket_life import REQUEST
from tests.support.stored_bucket import ARCHIVES, KEY, USER, unpack

each_archive = pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.partition(".")[0])


def test_every_layout_has_an_archive() -> None:
    names = [f"bucket-layout-{version}.tar.gz" for version in range(len(UPGRADES) + 1)]
    assert [path.name for path in ARCHIVES] == names


@each_archive
async def test_bucket_is_upgraded_and_has_keys_models_and_revisions(
    archive: Path, store: ObjectStore, settings: Settings, tmp_path: Path
) -> None:
    unpack(archive, store)
    catalog = Catalog(settings)

    assert BucketLayout(store).read().layout.version == len(UPGRADES)
    assert (await catalog.authenticate(hash_key(KEY))).user == USER
    assert [key.record.name for key in await catalog.list_keys(USER)] == ["laptop"]
    trained, copy = await catalog.private_models(USER)
    assert (trained.id, trained.revision) == ("mine-0", 2)
    assert (copy.id, copy.has_initial_adapter) == ("mine-1", True)
    assert [found.revision for found in await catalog.revisions(USER, "mine-0")] == [2, 1]
    for uid, revision in ((trained.uid, 1), (trained.uid, 2), (copy.uid, 0)):
        # `fetch` compares the digests.
        manifest = Revisions(store).fetch(uid, revision, tmp_path / f"{uid}-{revision}")
        assert manifest.size_bytes > 1000


@each_archive
def test_bucket_has_its_trainings_and_its_usage(archive: Path, store: ObjectStore) -> None:
    unpack(archive, store)
    jobs = Jobs(store)
    history = jobs.page(USER, None, 10)
    statuses = [JobStatus.QUEUED, JobStatus.SUCCEEDED, JobStatus.CANCELLED, JobStatus.SUCCEEDED]
    assert [job.status for job in history] == statuses
    assert [job.id for job in jobs.active()] == [history[0].id]
    assert jobs.load_request(USER, history[0].id) == REQUEST
    assert jobs.load_events(USER, history[1].id) == ["begun", "ended"]
    first, last = history[-1].created.date(), utc_now().date()
    sums = UsageParts(store).sums(USER, first, last)
    assert sum(usage.trained_tokens for usage in sums.values()) == 2


def test_catalog_refuses_the_bucket_of_a_later_release(store: ObjectStore, settings: Settings) -> None:
    BucketLayout(store).save(Layout(version=99), None)
    with pytest.raises(StorageUnfit, match="layout 99"):
        Catalog(settings)
    assert store.list("") == [LAYOUT_KEY]

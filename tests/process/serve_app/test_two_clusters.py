"""Three clusters follow one another on one bucket, and all of them accept work at the same time.

The clients use idempotency keys, and go to the next cluster when one refuses their changes.
"""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from registry.errors import Superseded
from registry.records import JobStatus, utc_now
from registry.revisions import Revisions
from registry.settings import StorageSettings
from registry.store import ObjectStore
from registry.usage import UsageParts
from serve_app.wire.models import CreateModel
from tests.support.bucket_cluster import TOKENS, BucketCluster
from tests.support.catalogs import settings_of
from tests.support.training_world import REQUEST
from tests.support.waiting import becomes_true, comes_true

CLUSTERS = ("first", "second", "third")
NUM_CLIENTS = 6
TRAININGS_PER_CLIENT = 6
MINE = CreateModel(name="Mine", description="", parent_model="base")


class Client:
    """A user who makes a model and trains it, at the newest cluster that the user knows."""

    def __init__(self, user: str, clusters: list[BucketCluster], first: int) -> None:
        self.user = user
        self.accepted: list[str] = []
        self._clusters = clusters
        self._at = first

    async def run(self) -> None:
        self.uid = await self._make()
        for number in range(TRAININGS_PER_CLIENT):
            self.accepted.append(await self._train(f"training-{number}"))

    async def _make(self) -> str:
        while True:
            try:
                return (await self._cluster.catalog.create(self.user, MINE, "model")).uid
            except Superseded:
                await self._go_on()

    async def _train(self, key: str) -> str:
        while True:
            try:
                model = await self._cluster.catalog.private_model(self.user, "mine")
                return (await self._cluster.trainer.submit(self.user, model, REQUEST, key)).id
            except Superseded:
                await self._go_on()

    @property
    def _cluster(self) -> BucketCluster:
        return self._clusters[self._at]

    async def _go_on(self) -> None:
        """Wait until the next cluster is there."""
        await comes_true(lambda: self._at + 1 < len(self._clusters))
        self._at += 1


@pytest.fixture
async def clusters() -> list[BucketCluster]:
    return []


async def start(settings: StorageSettings, clusters: list[BucketCluster], directory: Path) -> None:
    cluster = BucketCluster(settings_of(settings), CLUSTERS[len(clusters)], directory)
    await cluster.begin()
    clusters.append(cluster)


def num_accepted(clients: list[Client]) -> int:
    return sum(len(client.accepted) for client in clients)


async def all_ended(clusters: list[BucketCluster], clients: list[Client]) -> None:
    async def has_ended(user: str, job_id: str) -> bool:
        return (await clusters[-1].trainer.job(user, job_id)).status.is_terminal

    for client in clients:
        for job_id in client.accepted:
            await becomes_true(partial(has_ended, client.user, job_id), timeout_s=60)


async def test_nothing_is_lost_or_done_twice_and_the_former_clusters_stop(
    store: ObjectStore, storage_settings: StorageSettings, tmp_path: Path, clusters: list[BucketCluster]
) -> None:
    await start(storage_settings, clusters, tmp_path)
    clients = [Client(f"user-{number}", clusters, 0) for number in range(NUM_CLIENTS)]
    running = [asyncio.ensure_future(client.run()) for client in clients]
    for _ in CLUSTERS[1:]:
        enough = num_accepted(clients) + NUM_CLIENTS
        await comes_true(lambda enough=enough: num_accepted(clients) >= enough)
        assert not all(each.done() for each in running)
        await start(storage_settings, clusters, tmp_path)
        # A client of the new cluster works beside those that have not left the former one yet.
        clients.append(Client(f"new-{len(clusters)}", clusters, len(clusters) - 1))
        running.append(asyncio.ensure_future(clients[-1].run()))
    await asyncio.wait_for(asyncio.gather(*running), 60)
    await all_ended(clusters, clients)

    *former, newest = clusters
    await comes_true(lambda: store.list("jobs-active/") == [])
    await comes_true(lambda: all(run.done() for old in former for run in old.runs))
    for cluster in clusters:
        await cluster.meter.flush()
    today = utc_now().date()
    for client in clients:
        assert len(set(client.accepted)) == TRAININGS_PER_CLIENT
        (model,) = await newest.catalog.private_models(client.user)
        assert (model.uid, model.latest_revision) == (client.uid, TRAININGS_PER_CLIENT)
        made = [manifest.job for manifest in Revisions(store).list(model.uid)]
        assert sorted(map(str, made)) == sorted(client.accepted)
        statuses = {(await newest.trainer.job(client.user, job)).status for job in client.accepted}
        assert statuses == {JobStatus.SUCCEEDED}
        usage = UsageParts(store).sums(client.user, today, today)
        assert usage[today, "mine"].trained_tokens == TOKENS * TRAININGS_PER_CLIENT
    assert store.list("leftovers/") == []
    for old in former:
        model = (await old.catalog.private_models(f"new-{len(CLUSTERS) - 1}"))[0]
        with pytest.raises(Superseded):
            await old.trainer.submit(f"new-{len(CLUSTERS) - 1}", model, REQUEST)
        with pytest.raises(Superseded):
            await old.catalog.create(f"new-{len(CLUSTERS) - 1}", MINE.model_copy(update={"name": "Late"}))

"""A Catalog on a real object store, and one behind a proxy that can fail in the middle of a write."""

from collections.abc import Iterator

import pytest

from registry.revisions import Revisions
from registry.settings import StorageSettings
from registry.store import ObjectStore
from serve_app.catalog.catalog import Catalog
from serve_app.instance.seaweedfs import ObjectServer
from serve_app.settings import Settings
from tests.support.catalogs import settings_of
from tests.support.proxy import Proxy


@pytest.fixture
def settings(storage_settings: StorageSettings) -> Settings:
    return settings_of(storage_settings)


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return Catalog(settings)


@pytest.fixture
def revisions(store: ObjectStore) -> Revisions:
    return Revisions(store)


@pytest.fixture
def proxy(object_server: ObjectServer) -> Iterator[Proxy]:
    proxy = Proxy(object_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def behind(proxy: Proxy, storage_settings: StorageSettings) -> Catalog:
    """A Catalog on the same bucket, whose storage can go away."""
    url = f"http://127.0.0.1:{proxy.port}"
    return Catalog(settings_of(storage_settings.model_copy(update={"endpoint_url": url})))

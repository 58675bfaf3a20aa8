"""The running application of a test module, and two of its users."""

from collections.abc import Iterator

import pytest

from serve_app.settings import LimitSettings
from tests.support.service import Account, Service, running_service


@pytest.fixture(scope="module")
def limits() -> LimitSettings:
    """Small enough to reach. A module that needs others has a fixture of this name."""
    return LimitSettings(
        max_models_per_user=8,
        max_queued_jobs_per_user=3,
        max_responses_per_job=6,
        max_tokens_per_job=3000,
        max_learning_steps=50,
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, limits: LimitSettings) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("service"), limits) as service:
        yield service


@pytest.fixture
def alice(service: Service) -> Iterator[Account]:
    account = service.user()
    with account.http:
        yield account


@pytest.fixture
def bob(service: Service) -> Iterator[Account]:
    account = service.user()
    with account.http:
        yield account

"""The running application, which is shared by modules with the same limits, and two of its users.

A module that needs other limits has a constant `LIMITS`. One that needs several ingress replicas has
`NUM_INGRESSES`. Modules with the same values run one after another, so that the application starts once.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from serve_app.settings import LimitSettings
from tests.support.account import Account
from tests.support.service import Service, running_service

WIDE_LIMITS = LimitSettings(
    max_models_per_user=3000,
    max_queued_jobs_per_user=10_000,
    max_keys_per_user=10_000,
    max_requests_per_minute_per_user=None,
    max_concurrent_generations_per_user=1000,
    max_queued_tokens_per_user=10**8,
)
"""The limits of modules that must not reach any limit."""
SMALL_LIMITS = LimitSettings(
    max_models_per_user=8,
    max_queued_jobs_per_user=3,
    max_responses_per_job=6,
    max_examples_per_job=6,
    max_tokens_per_job=3000,
    max_learning_steps=50,
    max_trained_tokens_per_job=100_000,
)
"""The limits of modules without others: small enough to reach."""
MAX_KEYS = 4
LIMITS_OF_TWO = LimitSettings(max_keys_per_user=MAX_KEYS, max_requests_per_minute_per_user=None)
"""The limits of modules with two ingress replicas."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.parent == Path(__file__).parent]
    if not ours:
        return
    first = items.index(ours[0])
    applications: list[tuple[LimitSettings, int]] = []
    for item in ours:
        if application_of(item) not in applications:
            applications.append(application_of(item))
    ours.sort(key=lambda item: applications.index(application_of(item)))
    items[first : first + len(ours)] = ours


def application_of(item: pytest.Item) -> tuple[LimitSettings, int]:
    """Returns the limits and the number of ingress replicas of the application that a test needs."""
    module = item.getparent(pytest.Module).obj  # type: ignore[union-attr]
    return getattr(module, "LIMITS", SMALL_LIMITS), getattr(module, "NUM_INGRESSES", 1)


@pytest.fixture(scope="module")
def limits(request: pytest.FixtureRequest) -> LimitSettings:
    return getattr(request.module, "LIMITS", SMALL_LIMITS)


@pytest.fixture(scope="package")
def service_with(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[LimitSettings, int], Service]]:
    """A function that returns the application with these limits and this number of ingress replicas.

    It returns the running application if that has them.
    """
    running: list[tuple[LimitSettings, int, Service]] = []
    with ExitStack() as stack:

        def get(limits: LimitSettings, num_ingresses: int) -> Service:
            if not running or running[0][:2] != (limits, num_ingresses):
                running.clear()
                stack.close()
                root = tmp_path_factory.mktemp("service")
                service = stack.enter_context(running_service(root, limits, num_ingresses))
                running.append((limits, num_ingresses, service))
            return running[0][2]

        yield get


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest,
    service_with: Callable[[LimitSettings, int], Service],
    limits: LimitSettings,
) -> Service:
    return service_with(limits, getattr(request.module, "NUM_INGRESSES", 1))


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


@pytest.fixture
def accounts(service: Service) -> Iterator[list[Account]]:
    """Eight users."""
    with ExitStack() as clients:
        accounts = [service.user() for _ in range(8)]
        for account in accounts:
            clients.enter_context(account.http)
        yield accounts

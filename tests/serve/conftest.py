"""The running application, which is shared by modules with the same limits, and two of its users.

A module that needs other limits has a constant `LIMITS`. One that needs several ingress replicas has
`NUM_INGRESSES`. Modules with the same values run one after another. Between modules with other values the
settings are deployed anew, which is much faster than another start. A module that counts everything since the
start sets `IS_FRESH`: it gets an application of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from ray import serve

from registry.jobs import ACTIVE_PREFIX
from serve_app.deployment_options import APPLICATION, TRAINER
from serve_app.settings import LimitSettings
from tests.support.account import Account
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

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
    max_files_per_user=3,
    max_file_bytes_per_user=16 * 2**20,
)
"""The limits of modules without others: small enough to reach."""
MAX_KEYS = 4
LIMITS_OF_TWO = LimitSettings(max_keys_per_user=MAX_KEYS, max_requests_per_minute_per_user=None)
"""The limits of modules with two ingress replicas."""


class Wanted(NamedTuple):
    """The application that a module needs."""

    limits: LimitSettings
    num_ingresses: int
    is_fresh: bool


def wanted_by(module: object) -> Wanted:
    return Wanted(
        limits=getattr(module, "LIMITS", SMALL_LIMITS),
        num_ingresses=getattr(module, "NUM_INGRESSES", 1),
        is_fresh=getattr(module, "IS_FRESH", False),
    )


def application_of(item: pytest.Item) -> Wanted:
    return wanted_by(item.getparent(pytest.Module).obj)  # type: ignore[union-attr]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.parent == Path(__file__).parent]
    if not ours:
        return
    first = items.index(ours[0])
    applications: list[Wanted] = []
    for item in ours:
        if application_of(item) not in applications:
            applications.append(application_of(item))
    # A fresh application is started after all others, which share one.
    ours.sort(key=lambda item: (application_of(item).is_fresh, applications.index(application_of(item))))
    items[first : first + len(ours)] = ours


def end_trainings(service: Service, directory: Path) -> None:
    """Cancel what earlier tests have left waiting, so that a worker finds only what its test asks for."""
    if not (markers := service.store.list(ACTIVE_PREFIX)):
        return
    for user, job_id in (marker.removeprefix(ACTIVE_PREFIX).split("/") for marker in markers):
        serve.get_deployment_handle(TRAINER, APPLICATION).cancel.remote(user, job_id).result(timeout_s=30)
    directory.mkdir()
    with service.working(directory):
        wait_until(lambda: not service.store.list(ACTIVE_PREFIX), 60)


def change(service: Service, wanted: Wanted, directory: Path) -> None:
    """Deploy other settings. Later tests find no waiting training and no ended generation of earlier ones."""
    end_trainings(service, directory)
    for ended in service.signals.glob("ended *"):
        ended.unlink()
    ingress = service.settings.ingress.model_copy(update={"num_replicas": wanted.num_ingresses})
    service.deploy(service.settings.model_copy(update={"limits": wanted.limits, "ingress": ingress}))


@pytest.fixture(scope="package")
def service_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Wanted], Service]]:
    """A function that returns the running application after it has changed or started it."""
    running: list[tuple[Wanted, Service]] = []
    with ExitStack() as stack:

        def get(wanted: Wanted) -> Service:
            if running and running[0][0] == wanted:
                return running[0][1]
            root = tmp_path_factory.mktemp("service")
            if running and not wanted.is_fresh:
                service = running.pop()[1]
                change(service, wanted, root / "left")
            else:
                running.clear()
                stack.close()
                service = stack.enter_context(running_service(root, wanted.limits, wanted.num_ingresses))
            running.append((wanted, service))
            return service

        yield get


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest,
    service_for: Callable[[Wanted], Service],
    tmp_path_factory: pytest.TempPathFactory,
) -> Service:
    service = service_for(wanted_by(request.module))
    end_trainings(service, tmp_path_factory.mktemp("service") / "before")
    return service


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

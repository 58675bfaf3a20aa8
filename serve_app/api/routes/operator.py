"""`/v1/operator`: the state of the service and totals of all users, for operators.

For everybody else these routes do not exist. They answer with numbers only: no model, text or training of a
user.
"""

import asyncio
from collections import Counter
from datetime import date
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from registry.errors import NO_SUCH_ROUTE, InvalidRequest, RouteNotFound
from registry.jobs import ACTIVE_PREFIX
from registry.keys import ApiKeys
from registry.store import ObjectStore
from registry.usage import Usage, UsageParts
from serve_app.api.backends import Backends, BackendsDependency, UserDependency
from serve_app.api.model_listing import base_models
from serve_app.api.openapi import errors, success
from serve_app.api.operator_examples import BASE_MODEL_STATE, USERS_REPORT
from serve_app.api.routes.usage import Day, span
from serve_app.settings import BaseModelSettings
from serve_app.wire.base import Ref
from serve_app.wire.operator import BaseModelState, ReplicaLoad, State, UsersReport, UserUsage

ANSWER_S = 2.0
"""The time in which the replicas have to say how many generations they have."""


async def require_operator(user: UserDependency, backends: BackendsDependency) -> None:
    """Raises: RouteNotFound, unless the user is an operator."""
    if user not in backends.settings.operators:
        raise RouteNotFound(NO_SUCH_ROUTE)


router = APIRouter(prefix="/v1/operator", tags=["operator"], dependencies=[Depends(require_operator)])


@router.get(
    "/base_models",
    response_model=list[BaseModelState],
    responses=success([BASE_MODEL_STATE], "the base models") | errors(RouteNotFound),
)
async def list_base_models(backends: BackendsDependency) -> Any:
    """Get the state of all base models, and the generations in each of their replicas."""
    return await asyncio.gather(*(_state(backends, model) for model in base_models(backends.settings)))


@router.get(
    "/users",
    response_model=UsersReport,
    responses=success(USERS_REPORT, "a page of users") | errors(RouteNotFound, InvalidRequest),
)
async def list_users(
    backends: BackendsDependency,
    first: Annotated[Day | None, Query(alias="from", description="the first day, in UTC")] = None,
    last: Annotated[Day | None, Query(alias="to", description="the last day, in UTC; inclusive")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="number of users on a page")] = 50,
    after: Annotated[Ref, Query(description="the last user on the previous page")] = "",
) -> Any:
    """List the users who have a key, with their tokens and seconds in the last 30 days or in chosen ones."""
    first, last = span(first, last)
    return await asyncio.to_thread(_users, backends.store, first, last, limit, after)


async def _state(backends: Backends, model: BaseModelSettings) -> BaseModelState:
    health = backends.health[model.id]
    status: State = "unavailable"
    if health.is_available:
        status = "asleep" if health.is_asleep else "ready"
    replicas: list[ReplicaLoad] = []
    if status != "asleep":
        try:
            found = await backends.servers[model.id].generations_by_replica(ANSWER_S)
            replicas = [ReplicaLoad(generations=number) for number in found]
        except Exception:  # no replica is there, or one is too busy: the status says the rest
            replicas = []
    return BaseModelState(
        id=model.id,
        name=model.name,
        status=status,
        max_replicas=model.serving.most_replicas,
        replicas=replicas,
    )


def _users(store: ObjectStore, first: date, last: date, limit: int, after: str) -> UsersReport:
    following = (user for user in ApiKeys(store).users() if user > after)
    found = list(islice(following, limit + 1))
    trainings = Counter(marker.split("/")[1] for marker in store.list(ACTIVE_PREFIX))
    return UsersReport(
        first=first,
        last=last,
        data=[_user(store, user, first, last, trainings[user]) for user in found[:limit]],
        has_more=len(found) > limit,
    )


def _user(store: ObjectStore, user: str, first: date, last: date, num_trainings: int) -> UserUsage:
    total = sum(UsageParts(store).sums(user, first, last).values(), Usage())
    return UserUsage(user=user, unfinished_trainings=num_trainings, **UserUsage.rounded(total))

"""`GET /v1/usage`: a user's tokens and seconds."""

import asyncio
import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BeforeValidator

from registry.errors import InvalidRequest
from registry.meter import utc_today
from registry.usage import Usage, UsageParts
from serve_app.api.answer_examples import USAGE_REPORT
from serve_app.api.backends import BackendsDependency, UserDependency
from serve_app.api.openapi import errors, success
from serve_app.wire.usage import By, DayUsage, ModelUsage, UsageReport, UsageTotals, UsedBudget

router = APIRouter(prefix="/v1", tags=["usage"])

DEFAULT_NUM_DAYS = 30
MAX_NUM_DAYS = 366
DAY_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _day_as_written(value: Any) -> Any:
    """Refuses times and numbers, which pydantic would take for dates too."""
    if isinstance(value, str) and not DAY_PATTERN.fullmatch(value):
        raise ValueError("a day is written YYYY-MM-DD")
    return value


Day = Annotated[date, BeforeValidator(_day_as_written)]


@router.get(
    "/usage",
    response_model=UsageReport,
    responses=success(USAGE_REPORT, "the usage") | errors(InvalidRequest),
)
async def get_usage(
    user: UserDependency,
    backends: BackendsDependency,
    first: Annotated[Day | None, Query(alias="from", description="the first day, in UTC")] = None,
    last: Annotated[Day | None, Query(alias="to", description="the last day, in UTC; inclusive")] = None,
    by: Annotated[By, Query(description="each row of `data` is for one day or for one model")] = "day",
) -> Any:
    """Get your tokens and seconds by day or by model, for the last 30 days or for up to 366 chosen days.

    Usage of the last half minute may still be missing. `budgets` has your token budgets of this day and of
    this month, if the operator has set any.
    """
    first, last = span(first, last)
    sums = await asyncio.to_thread(UsageParts(backends.store).sums, user, first, last)
    budgets = [UsedBudget(**vars(standing)) for standing in await backends.token_budgets.standings(user)]
    return _report(first, last, by, sums, budgets)


def span(first: date | None, last: date | None) -> tuple[date, date]:
    """Returns the first and the last day of the report. Raises: InvalidRequest."""
    last = last or utc_today()
    first = first or date.fromordinal(max(last.toordinal() - DEFAULT_NUM_DAYS + 1, 1))
    if first > last:
        raise InvalidRequest(f"`from` ({first}) is later than `to` ({last})", "from")
    if (last - first).days >= MAX_NUM_DAYS:
        raise InvalidRequest(f"`from` ({first}) to `to` ({last}) is more than {MAX_NUM_DAYS} days", "from")
    return first, last


def _report(
    first: date, last: date, by: By, sums: Mapping[tuple[date, str], Usage], budgets: list[UsedBudget]
) -> UsageReport:
    days: dict[date, Usage] = {}
    models: dict[str, Usage] = {}
    for (day, model), usage in sorted(sums.items()):
        days[day] = days.get(day, Usage()) + usage
        models[model] = models.get(model, Usage()) + usage
    rounded = UsageTotals.rounded
    data: list[DayUsage] | list[ModelUsage]
    if by == "day":
        data = [DayUsage(day=day, **rounded(usage)) for day, usage in days.items()]
    else:
        data = [ModelUsage(model=model, **rounded(models[model])) for model in sorted(models)]
    total = UsageTotals(**rounded(sum(days.values(), Usage())))
    return UsageReport(first=first, last=last, by=by, data=data, total=total, budgets=budgets)

"""Token budgets in the settings."""

import pytest
from pydantic import ValidationError

from serve_app.budget_settings import TokenBudget
from serve_app.settings import LimitSettings


def test_budget_of_a_single_user_replaces_the_general_one() -> None:
    limits = LimitSettings.model_validate(
        {
            "max_tokens_per_user_per_day": 10,
            "token_budgets_by_user": {"alice": {"max_tokens_per_month": 20}, "bob": {}},
        }
    )
    assert limits.budget_of("alice") == TokenBudget(max_tokens_per_month=20)
    assert limits.budget_of("bob") == TokenBudget()
    assert limits.budget_of("carol") == TokenBudget(max_tokens_per_day=10)


def test_nobody_has_a_budget_by_default() -> None:
    assert LimitSettings().budget_of("alice") == TokenBudget()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens_per_user_per_day": 0},
        {"token_budgets_by_user": {"Not A User": {}}},
        {"token_budgets_by_user": {"alice": {"max_tokens_per_week": 5}}},
    ],
)
def test_budget_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LimitSettings.model_validate(wrong)

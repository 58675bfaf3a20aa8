"""The settings of token budgets: the tokens that a user may use in a day and in a month."""

from pydantic import Field

from registry.records import Record, User


class TokenBudget(Record):
    """The budget of one user. None: the period has no budget."""

    max_tokens_per_day: int | None = Field(None, ge=1)
    max_tokens_per_month: int | None = Field(None, ge=1)


class BudgetSettings(Record):
    """Tokens are those of prompts and answers, and those that were trained on. Periods are those of UTC."""

    max_tokens_per_user_per_day: int | None = Field(None, ge=1, description="None: no budget")
    max_tokens_per_user_per_month: int | None = Field(None, ge=1, description="None: no budget")
    token_budgets_by_user: dict[User, TokenBudget] = Field(
        {}, description="budgets of single users, which replace both values above"
    )

    def budget_of(self, user: str) -> TokenBudget:
        general = TokenBudget(
            max_tokens_per_day=self.max_tokens_per_user_per_day,
            max_tokens_per_month=self.max_tokens_per_user_per_month,
        )
        return self.token_budgets_by_user.get(user, general)

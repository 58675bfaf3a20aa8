"""The tokens of a training in all its steps are bounded."""

from typing import Any

import pytest

from registry.errors import InvalidRequest
from serve_app.api.job_request import build_job
from serve_app.api.training_checks import check_trained_tokens
from serve_app.settings import LimitSettings
from serve_app.wire.train import Train
from tests.support.model_records import model_record

HELLO = [{"role": "user", "content": "Hello"}]
RESPONSES = [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]
GRPO = {"messages": HELLO, "responses": RESPONSES}
EXAMPLE = {"messages": [*HELLO, {"role": "assistant", "content": "Hi."}]}
NINE = {"method": "supervised", "examples": [EXAMPLE] * 9, "batch_size": 8}
NUM_TOKENS = 900


@pytest.mark.parametrize(
    ("body", "in_all_steps", "param"),
    [
        ({**GRPO, "learning_steps": 3}, 3 * NUM_TOKENS, "learning_steps"),
        ({**NINE, "epochs": 4}, 4 * NUM_TOKENS, "epochs"),  # each epoch ends with a batch of one example
        ({**NINE, "learning_steps": 8}, 4 * NUM_TOKENS, "learning_steps"),
        ({**NINE, "learning_steps": 7}, 3 * NUM_TOKENS + 800, "learning_steps"),
        ({**NINE, "learning_steps": 1}, 800, "learning_steps"),
    ],
)
def test_tokens_of_all_steps_have_a_limit(body: dict[str, Any], in_all_steps: int, param: str) -> None:
    request = Train.model_validate({"model": "mine", **body})
    job = build_job(request, model_record())
    check_trained_tokens(NUM_TOKENS, request, job, LimitSettings(max_trained_tokens_per_job=in_all_steps))
    limits = LimitSettings(max_trained_tokens_per_job=in_all_steps - 1)
    with pytest.raises(InvalidRequest, match=f" are {in_all_steps};") as error:
        check_trained_tokens(NUM_TOKENS, request, job, limits)
    assert error.value.param == param

from typing import Any

import pytest

from registry.errors import InvalidRequest
from registry.records import Defaults, ModelRecord
from serve_app.api.job_request import build_job
from serve_app.api.value_limits import check_model_values, check_training_values
from serve_app.settings import LimitSettings
from serve_app.wire.models import ChangeModel, CreateModel
from serve_app.wire.train import Train
from tests.support.model_records import model_record

LIMITS = LimitSettings(max_learning_rate=0.01, max_learning_steps=20, max_beta=2, max_alpha=64)
CREATE = {"name": "Mine", "description": "", "parent_model": "base"}
HELLO = [{"role": "user", "content": "Hello"}]
RESPONSES = [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]
GRPO = {"model": "mine", "messages": HELLO, "responses": RESPONSES}
EXAMPLE = {"messages": [*HELLO, {"role": "assistant", "content": "Hi."}]}
SUPERVISED = {"model": "mine", "method": "supervised", "examples": [EXAMPLE] * 9}
PAIR = {"messages": HELLO, "preferred": "Hi.", "rejected": "No."}
DPO = {"model": "mine", "method": "dpo", "pairs": [PAIR] * 9}
BEYOND = [("learning_rate", 1e38), ("learning_rate", 0.011), ("beta", 2.1)]


def model(alpha: float = 16, **defaults: Any) -> ModelRecord:
    return model_record(alpha=alpha, defaults=Defaults(**defaults))


def check_training(model: ModelRecord, body: dict[str, Any] | None = None, /, **given: Any) -> None:
    request = Train.model_validate({**(body or GRPO), **given})
    check_training_values(request, build_job(request, model), model, LIMITS)


@pytest.mark.parametrize(("field", "value"), [*BEYOND, ("alpha", 64.5)])
def test_value_beyond_the_limit_is_named(field: str, value: float) -> None:
    requests: list[CreateModel | ChangeModel] = [CreateModel.model_validate(CREATE | {field: value})]
    if field != "alpha":
        requests.append(ChangeModel.model_validate({field: value}))
    for request in requests:
        with pytest.raises(InvalidRequest, match=f"`{field}` must be at most") as error:
            check_model_values(request, LIMITS)
        assert error.value.param == field


def test_limit_itself_is_taken() -> None:
    highest = {"learning_rate": 0.01, "beta": 2, "alpha": 64}
    check_model_values(CreateModel.model_validate(CREATE | highest), LIMITS)
    check_model_values(ChangeModel.model_validate({}), LIMITS)
    check_training(model(alpha=64, learning_rate=0.01, learning_steps=20, beta=2))


@pytest.mark.parametrize(("field", "value"), [*BEYOND, ("learning_steps", 21)])
def test_training_beyond_the_limit_is_refused_also_by_default(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match="value of the request") as error:
        check_training(model(), **{field: value})
    assert error.value.param == field
    with pytest.raises(InvalidRequest, match="default") as error:
        check_training(model(**{field: value}))
    assert error.value.param == field


def test_model_with_an_alpha_of_before_the_limit_is_not_trained() -> None:
    with pytest.raises(InvalidRequest, match="65") as error:
        check_training(model(alpha=65))
    assert error.value.param == "model"


@pytest.mark.parametrize(
    ("body", "field", "value"), [(SUPERVISED, "learning_rate", 0.011), (DPO, "beta", 2.1)]
)
def test_values_of_all_methods_are_limited(body: dict[str, Any], field: str, value: float) -> None:
    check_training(model(), body, **{field: value - 0.1 if field == "beta" else 0.01})
    with pytest.raises(InvalidRequest, match="value of the request") as error:
        check_training(model(), body, **{field: value})
    assert error.value.param == field


def test_defaults_of_the_model_are_not_those_of_other_methods() -> None:
    check_training(model(learning_rate=0.011, learning_steps=21, beta=2.1), SUPERVISED)
    check_training(model(learning_rate=0.011, learning_steps=21, beta=2.1), DPO)


def test_epochs_that_are_too_many_steps_are_refused_with_the_numbers() -> None:
    check_training(model(), SUPERVISED, epochs=10)
    with pytest.raises(InvalidRequest, match=r"batches of 8 examples are 22 steps.* at most 20") as error:
        check_training(model(), SUPERVISED, epochs=11)
    assert error.value.param == "epochs"
    with pytest.raises(InvalidRequest, match=r"batches of 1 pairs are 27 steps.* at most 20") as error:
        check_training(model(), DPO, epochs=3, batch_size=1)
    assert error.value.param == "epochs"
    with pytest.raises(InvalidRequest, match="value of the request is 21") as error:
        check_training(model(), DPO, learning_steps=21)
    assert error.value.param == "learning_steps"

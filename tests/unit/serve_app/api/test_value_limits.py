from typing import Any

import pytest

from registry.errors import InvalidRequest
from registry.records import Defaults, Hyperparameters, ModelRecord
from serve_app.api.value_limits import check_model_values, check_training_values
from serve_app.settings import LimitSettings
from serve_app.wire.models import ChangeModel, CreateModel
from serve_app.wire.train import Train
from tests.support.model_records import model_record

LIMITS = LimitSettings(max_learning_rate=0.01, max_learning_steps=20, max_beta=2, max_alpha=64)
CREATE = {"name": "Mine", "description": "", "parent_model": "base"}
HELLO = [{"role": "user", "content": "Hello"}]
RESPONSES = [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]
BEYOND = [("learning_rate", 1e38), ("learning_rate", 0.011), ("beta", 2.1)]


def model(alpha: float = 16, **defaults: Any) -> ModelRecord:
    return model_record(alpha=alpha, defaults=Defaults(**defaults))


def check_training(model: ModelRecord, **given: Any) -> None:
    request = Train.model_validate({"model": "mine", "messages": HELLO, "responses": RESPONSES, **given})
    values = {name: given.get(name, getattr(model.defaults, name)) for name in Hyperparameters.model_fields}
    check_training_values(request, Hyperparameters(**values), model, LIMITS)


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

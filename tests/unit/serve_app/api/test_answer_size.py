import json
from typing import Any

import pytest

from registry.errors import InvalidRequest
from registry.records import ModelRecord, UserModels, generate_uid, utc_now
from serve_app.api.answer_size import (
    BYTES_PER_LOG_PROB,
    BYTES_PER_TOKEN,
    check_completion,
    check_generation,
    largest_chat,
)
from serve_app.catalog.cache_leases import ReadModels
from serve_app.instance.haproxy import MAX_MESSAGE_BYTES
from serve_app.settings import BaseModelSettings, IngressSettings, LimitSettings
from serve_app.wire.generate import MAX_SAMPLES, GenerateResponse
from serve_app.wire.models import MAX_DESCRIPTION_CHARACTERS
from serve_app.wire.openai import ChatCompletionRequest, CompletionRequest

LIMITS = LimitSettings(
    max_answer_tokens=1000, max_log_probs_per_answer=4000, max_concurrent_generations_per_user=100
)
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def base() -> BaseModelSettings:
    return BaseModelSettings(
        id="base", name="Base", description="", last_modified=utc_now(), source="/x",
        max_context_tokens=600, default_max_tokens=50,
    )  # fmt: skip


def generation(**fields: Any) -> GenerateResponse:
    return GenerateResponse.model_validate({"messages": MESSAGES, **fields})


def chat(**fields: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest.model_validate({"messages": MESSAGES, **fields})


def completion(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"prompt": "Hello", **fields})


@pytest.mark.parametrize(
    "fields",
    [{}, {"n": 20}, {"n": 10, "max_tokens": 100}, {"max_tokens": 10**9}, {"max_tokens": 600, "stream": True}],
)
def test_samples_that_fit_an_answer_are_made(base: BaseModelSettings, fields: dict[str, Any]) -> None:
    check_generation(generation(**fields), base, LIMITS)


@pytest.mark.parametrize("fields", [{"n": 21}, {"n": 10, "max_tokens": 101}, {"n": 2, "max_tokens": 10**9}])
def test_samples_that_may_not_fit_an_answer_are_refused(
    base: BaseModelSettings, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match="1000") as error:
        check_generation(generation(**fields), base, LIMITS)
    assert error.value.param == "n"


@pytest.mark.parametrize(
    ("fields", "max_tokens"),
    [
        ({}, None),
        ({"n": 2}, 500),
        ({"n": 2, "max_tokens": 500}, None),
        ({"n": 2, "stream": True}, None),
        ({"logprobs": True}, None),
        ({"logprobs": True, "top_logprobs": 19}, 200),
        ({"logprobs": True, "top_logprobs": 19, "stream": True}, None),
        ({"logprobs": True, "top_logprobs": 19, "n": 4}, 50),
        ({"logprobs": True, "top_logprobs": 19, "max_completion_tokens": 200}, None),
        ({"logprobs": True, "top_logprobs": 9, "max_tokens": 400}, None),
    ],
)
def test_chat_that_gives_no_length_gets_what_fits(
    base: BaseModelSettings, fields: dict[str, Any], max_tokens: int | None
) -> None:
    assert largest_chat(chat(**fields), base, LIMITS) == max_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2, "max_tokens": 501}, "n"),
        ({"n": 2, "max_completion_tokens": 501, "max_tokens": 1}, "n"),
        ({"max_tokens": 401, "logprobs": True, "top_logprobs": 9}, "top_logprobs"),
        ({"n": 64, "logprobs": True, "top_logprobs": 20, "max_tokens": 3}, "top_logprobs"),
    ],
)
def test_chat_that_may_not_fit_is_refused(
    base: BaseModelSettings, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest, match=r"1000|4000") as error:
        largest_chat(chat(**fields), base, LIMITS)
    assert error.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": ["a"] * 62},
        {"prompt": ["a"] * 5, "n": 2, "max_tokens": 100},
        {"prompt": ["a"] * 50, "n": 2, "max_tokens": 600, "stream": True},
        {"n": 64, "max_tokens": 15},
        {"prompt": [[1] * 10][0], "echo": True, "n": 20, "max_tokens": 40},
        {"logprobs": 19, "max_tokens": 200},
    ],
)
def test_completion_that_fits_an_answer_is_made(base: BaseModelSettings, fields: dict[str, Any]) -> None:
    check_completion(completion(**fields), base, LIMITS)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a"] * 63}, "prompt"),
        ({"prompt": ["a"] * 5, "n": 2, "max_tokens": 101}, "n"),
        ({"prompt": ["a"] * 64, "n": 64, "max_tokens": 1}, "n"),
        ({"prompt": ["a"] * 64, "n": 2, "max_tokens": 1, "stream": True}, "n"),
        ({"prompt": ["a"] * 9 + ["a" * 100], "echo": True, "max_tokens": 1}, "prompt"),
        ({"prompt": [1] * 599, "echo": True, "max_tokens": 1, "n": 2}, "n"),
        ({"prompt": [1] * 599, "return_token_ids": True, "max_tokens": 1, "n": 2}, "n"),
        ({"prompt": [[1] * 599, [1]], "return_token_ids": True, "max_tokens": 1}, "prompt"),
        ({"logprobs": 19, "max_tokens": 201}, "logprobs"),
        ({"prompt": "a" * 200, "echo": True, "logprobs": 19, "max_tokens": 1}, "logprobs"),
    ],
)
def test_completion_that_may_not_fit_is_refused(
    base: BaseModelSettings, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_completion(completion(**fields), base, LIMITS)
    assert error.value.param == param


# The largest of everything fits a message between deployments, with room for what is around it


def highest(setting: str, settings: type[LimitSettings] | type[IngressSettings] = LimitSettings) -> int:
    return next(int(bound.le) for bound in settings.model_fields[setting].metadata if hasattr(bound, "le"))


def test_largest_answer_fits_a_message() -> None:
    assert highest("max_answer_tokens") * BYTES_PER_TOKEN <= MAX_MESSAGE_BYTES // 2
    assert highest("max_log_probs_per_answer") * BYTES_PER_LOG_PROB <= MAX_MESSAGE_BYTES // 2
    assert (
        LimitSettings().max_answer_tokens
        >= MAX_SAMPLES * BaseModelSettings.model_fields["default_max_tokens"].get_default()
    )  # else no default request for all samples could be answered


def test_log_probability_of_an_answer_is_not_larger_than_thought() -> None:
    """The entry is one that vLLM writes for a chat. Its token has 32 bytes, which is more than usual."""
    entry = {"token": " " * 32, "logprob": -12.345678901234567, "bytes": [32] * 32}
    assert len(json.dumps(entry, separators=(",", ":"))) <= BYTES_PER_LOG_PROB


def test_largest_request_fits_a_message() -> None:
    assert highest("max_request_bytes", IngressSettings) <= MAX_MESSAGE_BYTES // 2


@pytest.mark.parametrize("character", ["\U0001f405", "\\", '"', "\n"])
def test_largest_list_of_models_fits_a_message(base: BaseModelSettings, character: str) -> None:
    model = ModelRecord(
        uid=generate_uid(), id="x" * 70, name="\U0001f405" * 64, parent_model="\U0001f405" * 64,
        description=character * MAX_DESCRIPTION_CHARACTERS, base_model="b" * 64, rank=1, alpha=1 / 3,
        dropout=1 / 3, defaults=base.defaults, created=utc_now(), last_modified=utc_now(),
        revision=10**9, latest_revision=10**9,
    )  # fmt: skip
    one = len(ReadModels(UserModels(models=(model,)).model_dump_json().encode(), None).json)
    assert one * highest("max_models_per_user") <= MAX_MESSAGE_BYTES

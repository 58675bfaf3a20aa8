"""The Responses API of the running application with OpenAI's own client; the model server is a fake."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.support.account import Account
from tests.support.service import Service


def api_of(service: Service, account: Account) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/openai/v1", api_key=account.key, max_retries=0, timeout=40)


@pytest.fixture
def api(service: Service, alice: Account) -> Iterator[OpenAI]:
    with api_of(service, alice) as api:
        yield api


def test_answer_and_stream_are_read_by_openais_client(api: OpenAI, alice: Account) -> None:
    alice.create("Mine")
    answer = api.responses.create(model="Mine", input="Hello", store=True)
    assert (answer.output_text, answer.status, answer.model) == ("Hi", "completed", "mine@0")
    with api.responses.stream(model="mine", input=[{"role": "user", "content": "Hello"}]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert (final.output_text, final.model) == ("Hi", "mine@0")
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


def test_anothers_model_does_not_exist(service: Service, alice: Account, bob: Account) -> None:
    alice.create("Mine")
    with api_of(service, bob) as api:
        for stream in (False, True):
            with pytest.raises(openai.NotFoundError) as absent:
                api.responses.create(model="mine", input="Hello", stream=stream)
            assert (absent.value.code, absent.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("value", ["so " * 10**5, [{"role": "user", "content": "so " * 10**5}]])
def test_too_long_an_input_is_refused_by_its_name(api: OpenAI, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        api.responses.create(model="one", input=value)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")

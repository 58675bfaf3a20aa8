"""`/openai/v1` with existing clients, of which only base URL and key are changed."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.support.outside import outside
from tests.support.system import CALL_TIMEOUT_S, Client, System

BASE = "smollm2-135m"
QUESTION = "What is your favourite colour?"
REWARDS = {"Green.": 1.0, "I do not have one.": 0.0, "Blue, like the sky.": 0.0, "Colours are nice.": 0.0}
FAST = {"learning_rate": 2e-4, "learning_steps": 4, "beta": 0.01}

ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
PAINT: Any = {
    "type": "function",
    "function": {
        "name": "paint",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"enum": ["red", "blue"]}},
            "required": ["colour"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def pupil(system: System) -> Client:
    """A client that has one private model, at revision 1."""
    client = system.client("openai-pupil")
    client.create("Pupil One")
    client.train("pupil-one", QUESTION, REWARDS, **FAST)
    return client


@pytest.fixture(scope="module")
def api(system: System, pupil: Client) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{system.url}/openai/v1", api_key=pupil.key, timeout=CALL_TIMEOUT_S) as client:
        yield client


def test_lists_and_gets_models(api: OpenAI) -> None:
    listed = [model.id for model in api.models.list()]
    assert listed == [BASE, "twin", "pupil-one"]
    assert [api.models.retrieve(name).id for name in listed] == listed
    assert api.models.retrieve("Pupil One").owned_by == "you"


def test_answers_as_the_rest_of_the_api_does(api: OpenAI, pupil: Client) -> None:
    """Template and adapter are the same, so the greedy answers are equal, by id, name and revision."""
    for ref, named in (
        (BASE, BASE),
        ("pupil-one", "pupil-one@1"),
        ("Pupil One", "pupil-one@1"),
        ("pupil-one@0", "pupil-one@0"),
    ):
        answer = api.chat.completions.create(model=ref, messages=ASKED, **GREEDY)
        ours = pupil.greedy(ref, QUESTION, 24)
        assert answer.choices[0].message.content == ours["message"]["content"], ref
        assert answer.model == named
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == ours["usage"]["input_tokens"]
    taught = api.chat.completions.create(model="pupil-one", messages=ASKED, **GREEDY)
    untaught = api.chat.completions.create(model="pupil-one@0", messages=ASKED, **GREEDY)
    assert taught.choices[0].message.content != untaught.choices[0].message.content


def test_streams_what_it_answers(api: OpenAI) -> None:
    answer = api.chat.completions.create(model="pupil-one", messages=ASKED, **GREEDY)
    with api.chat.completions.create(
        model="pupil-one", messages=ASKED, stream=True, stream_options={"include_usage": True}, **GREEDY
    ) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == answer.choices[0].message.content
    assert {chunk.model for chunk in chunks} == {"pupil-one@1"}
    assert chunks[-1].usage is not None and answer.usage is not None
    assert chunks[-1].usage.total_tokens == answer.usage.total_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_async_client_streams(system: System, pupil: Client, api: OpenAI) -> None:
    answer = api.chat.completions.create(model="pupil-one", messages=ASKED, **GREEDY)
    async with AsyncOpenAI(base_url=f"{system.url}/openai/v1", api_key=pupil.key) as client:
        stream = await client.chat.completions.create(
            model="pupil-one", messages=ASKED, stream=True, **GREEDY
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == answer.choices[0].message.content


def test_parameters_mean_what_they_say(api: OpenAI) -> None:
    def ask(**more: Any) -> Any:
        return api.chat.completions.create(model=BASE, messages=ASKED, **{"max_tokens": 12, **more})

    assert len(ask(n=3, temperature=1).choices) == 3
    seeded = [ask(seed=7, temperature=1).choices[0].message.content for _ in range(2)]
    assert seeded[0] == seeded[1]
    whole = ask(temperature=0).choices[0].message.content
    word = whole.split()[2]
    stopped = ask(temperature=0, stop=[word]).choices[0]
    assert (stopped.finish_reason, stopped.message.content) == ("stop", whole.partition(word)[0])
    cut = ask(temperature=0, max_tokens=3)
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 3)
    with_logprobs = ask(temperature=0, logprobs=True, top_logprobs=2, max_tokens=4).choices[0].logprobs
    assert [len(token.top_logprobs) for token in with_logprobs.content] == [2] * 4
    first = with_logprobs.content[0]
    assert first.top_logprobs[0].token == first.token and first.logprob <= 0
    wanted = [
        ask(temperature=0, max_tokens=3, logit_bias={token: 100}).choices[0].message.content
        for token in ("1000", "2000")
    ]
    assert wanted[0] != wanted[1]
    assert all(text == text[: len(text) // 3] * 3 for text in wanted), wanted
    assert ask(temperature=0, frequency_penalty=2, max_tokens=24).choices[0].message.content


def test_structured_output_is_what_was_asked_for(api: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "big": {"type": "boolean"}},
        "required": ["city", "big"],
        "additionalProperties": False,
    }
    answer = api.chat.completions.create(
        model="pupil-one",
        messages=ASKED,
        max_tokens=40,
        temperature=1,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert found["city"] in ("Paris", "Rome") and isinstance(found["big"], bool)
    answer = api.chat.completions.create(
        model=BASE, messages=ASKED, max_tokens=40, temperature=0, response_format={"type": "json_object"}
    )
    assert (answer.choices[0].message.content or "").lstrip().startswith("{")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "paint"}}])
def test_tools_are_called(api: OpenAI, choice: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": "Paint it blue."}]
    answer = api.chat.completions.create(
        model=BASE, messages=messages, tools=[PAINT], tool_choice=choice, max_tokens=64, temperature=0
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "paint"
    assert json.loads(call.function.arguments)["colour"] in ("red", "blue")
    messages += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "done"}]
    after = api.chat.completions.create(model=BASE, messages=messages, tools=[PAINT], max_tokens=8)
    assert after.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_text_completions(api: OpenAI, pupil: Client) -> None:
    answer = api.completions.create(model="pupil-one", prompt="One two three", max_tokens=4, temperature=0)
    both = api.completions.create(
        model="pupil-one", prompt=["One two three", "Red and"], max_tokens=4, temperature=0, logprobs=1
    )
    assert [choice.index for choice in both.choices] == [0, 1]
    assert both.choices[0].text == answer.choices[0].text
    assert both.choices[0].logprobs is not None
    echoed = api.completions.create(model=BASE, prompt="One two", max_tokens=1, echo=True)
    assert echoed.choices[0].text.startswith("One two")
    stream = api.completions.create(
        model="pupil-one", prompt="One two three", max_tokens=4, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cache_salt", "of-another-user"),
        ("lora_path", "/tmp"),
        ("priority", -5),
        ("request_id", "mine"),
        ("chat_template", "{{ messages }}"),
        ("kv_transfer_params", {}),
        ("vllm_xargs", {}),
        ("structured_outputs", {"grammar": "start: /a*/"}),
        ("prompt_embeds", "x"),
        ("mm_processor_kwargs", {}),
        ("media_io_kwargs", {}),
        ("truncate_prompt_tokens", 5),
        ("use_beam_search", True),
        ("prompt_logprobs", 1),
        ("documents", []),
    ],
)
def test_what_is_for_the_engine_is_refused(api: OpenAI, field: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        api.chat.completions.create(model=BASE, messages=ASKED, extra_body={field: value})
    assert str(error.value.param).split(".")[0] == field
    assert error.value.code == "invalid_request"


def test_images_are_refused(api: OpenAI) -> None:
    """Otherwise the server would fetch the URL of a message, or read the file of a `file:` URL."""
    image: Any = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/secret"}}
    with pytest.raises(openai.BadRequestError) as error:
        api.chat.completions.create(model=BASE, messages=[{"role": "user", "content": [image]}])
    assert str(error.value.param).startswith("messages.0.content")


def test_errors_are_openais(api: OpenAI, system: System) -> None:
    with pytest.raises(openai.NotFoundError) as absent:
        api.chat.completions.create(model="absent", messages=ASKED)
    assert (absent.value.code, absent.value.request_id is not None) == ("model_not_found", True)
    with pytest.raises(openai.BadRequestError) as long:
        api.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "so " * 3000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as long:
        api.chat.completions.create(model=BASE, messages=ASKED, max_tokens=5000)
    assert long.value.code in ("context_length_exceeded", "invalid_request")
    with pytest.raises(openai.BadRequestError) as wrong:
        api.chat.completions.create(model=BASE, messages=ASKED, temperature=9)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.BadRequestError):
        schema: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
        api.chat.completions.create(model=BASE, messages=ASKED, response_format=schema)
    stranger = OpenAI(base_url=f"{system.url}/openai/v1", api_key="tiger_wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_langchain(system: System, pupil: Client) -> None:
    seen = outside("with_langchain.py", system, pupil, "pupil-one")
    ours = pupil.greedy("pupil-one", QUESTION, 16)
    assert seen["answer"] == seen["streamed"] == ours["message"]["content"]
    # In a batch bfloat16 sums differ a little: the answers begin alike.
    assert {answer[:10] for answer in seen["at_once"]} == {seen["answer"][:10]}
    assert seen["usage"]["output_tokens"] == ours["usage"]["output_tokens"]
    assert seen["model"] == "pupil-one@1"
    assert seen["conversation"]
    assert seen["structured"] in ("red", "blue")
    assert seen["tools"] == ["paint"]


def test_litellm(system: System, pupil: Client) -> None:
    seen = outside("with_litellm.py", system, pupil, "pupil-one")
    ours = pupil.greedy("pupil-one", QUESTION, 24)
    assert seen["answer"] == seen["streamed"] == ours["message"]["content"]
    assert seen["tokens"] == ours["usage"]["output_tokens"]
    assert seen["refused"] == "NotFoundError"

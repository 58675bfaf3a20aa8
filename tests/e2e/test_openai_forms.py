"""`/openai/v1` as evaluations, benchmarks and RL clients use it: tokens, forced lengths, many forms."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.support.system import CALL_TIMEOUT_S, Client, System

BASE = "smollm2-135m"
ASKED: list[Any] = [{"role": "user", "content": "Say hello."}]
WITHOUT_SCHEMA = {"type": "json_schema", "json_schema": {"name": "x"}}
TOKENS = {"return_token_ids": True}


@pytest.fixture
def api(system: System, alice: Client) -> Iterator[OpenAI]:
    url = f"{system.url}/openai/v1"
    with OpenAI(base_url=url, api_key=alice.key, timeout=CALL_TIMEOUT_S, max_retries=0) as client:
        yield client


def chat(api: OpenAI, **fields: Any) -> Any:
    extra = {name: fields.pop(name) for name in list(fields) if name in OF_VLLM}
    given = {"model": BASE, "messages": ASKED, "max_tokens": 8, "temperature": 0, **fields}
    return api.chat.completions.create(**given, extra_body=extra)


OF_VLLM = {
    "return_token_ids", "return_tokens_as_token_ids", "ignore_eos", "min_tokens", "stop_token_ids",
    "structured_outputs", "chat_template_kwargs", "include_stop_str_in_output",
}  # fmt: skip


def test_tokens_that_were_sampled_come_where_asked_for(api: OpenAI) -> None:
    whole = chat(api, return_token_ids=True, return_tokens_as_token_ids=True, logprobs=True)
    (choice,) = whole.choices
    assert len(choice.token_ids) == whole.usage.completion_tokens
    assert [part.token for part in choice.logprobs.content] == [f"token_id:{id}" for id in choice.token_ids]
    assert len(whole.prompt_token_ids) == whole.usage.prompt_tokens
    chunks = list(chat(api, return_token_ids=True, stream=True))
    assert chunks[0].prompt_token_ids == whole.prompt_token_ids
    parts = [chunk.choices[0].to_dict().get("token_ids") or [] for chunk in chunks]
    assert [token for part in parts for token in part] == choice.token_ids
    both = api.completions.create(
        model=BASE,
        prompt=[whole.prompt_token_ids, whole.prompt_token_ids[:5]],
        max_tokens=8,
        temperature=0,
        extra_body=TOKENS,
    )
    first, second = (each.to_dict() for each in both.choices)
    assert (first["token_ids"], first["text"]) == (choice.token_ids, choice.message.content)
    assert second["prompt_token_ids"] == whole.prompt_token_ids[:5]


def test_tokens_do_not_come_unasked(api: OpenAI) -> None:
    streams = [
        chat(api, stream=True),
        api.completions.create(model=BASE, prompt="One", max_tokens=3, stream=True),
    ]
    told = [chunk.to_json() for stream in streams for chunk in stream]
    told += [chat(api).to_json(), api.completions.create(model=BASE, prompt="One", max_tokens=3).to_json()]
    assert len(told) > 8
    assert not [
        text for text in told if "token_ids" in text or "stop_reason" in text or "prompt_text" in text
    ]


def test_answer_is_as_long_as_asked_for(api: OpenAI) -> None:
    free = chat(api, max_tokens=60)
    assert free.choices[0].finish_reason == "stop"
    num_tokens = free.usage.completion_tokens
    on = chat(api, max_tokens=num_tokens + 20, ignore_eos=True)
    assert (on.choices[0].finish_reason, on.usage.completion_tokens) == ("length", num_tokens + 20)
    least = chat(api, max_tokens=num_tokens + 20, min_tokens=num_tokens + 5)
    assert least.usage.completion_tokens >= num_tokens + 5
    stopping = chat(api, return_token_ids=True).choices[0].token_ids[2]
    stopped = chat(api, stop_token_ids=[stopping], return_token_ids=True).choices[0]
    assert (stopped.finish_reason, stopped.stop_reason, stopped.token_ids[-1]) == ("stop", stopping, stopping)


def test_likeliest_answer_may_be_asked_for_twice(api: OpenAI) -> None:
    one = chat(api)
    two = chat(api, n=2)
    assert [choice.index for choice in two.choices] == [0, 1]
    assert {choice.message.content for choice in two.choices} == {one.choices[0].message.content}
    assert two.usage.completion_tokens == 2 * one.usage.completion_tokens
    assert two.usage.prompt_tokens == one.usage.prompt_tokens
    texts = {0: "", 1: ""}
    for chunk in chat(api, n=2, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert set(texts.values()) == {one.choices[0].message.content}
    assert chunk.usage.completion_tokens == two.usage.completion_tokens
    prompts = api.completions.create(model=BASE, prompt=["One two", "A b"], n=2, max_tokens=3, temperature=0)
    answers = [choice.text for choice in prompts.choices]
    assert answers[0] == answers[1] and answers[2] == answers[3] and len(answers) == 4


def test_every_seed_repeats(api: OpenAI) -> None:
    for seed in (-1, -2, -(2**63)):
        asked = {"seed": seed, "temperature": 1.5, "n": 3}
        first, again = ([choice.message.content for choice in chat(api, **asked).choices] for _ in range(2))
        assert first == again, seed
        assert len(set(first)) > 1


def test_usage_comes_with_every_chunk(api: OpenAI) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    counts = [chunk.usage.completion_tokens for chunk in chat(api, stream=True, stream_options=options)]
    assert counts == sorted(counts) and len(set(counts)) > 3


@pytest.mark.parametrize(
    ("held", "answers"),
    [({"choice": ["crimson", "teal"]}, ("crimson", "teal")), ({"regex": "(no|yes)!"}, ("no!", "yes!"))],
)
def test_answer_is_held_in_vllms_words(api: OpenAI, held: Any, answers: tuple[str, ...]) -> None:
    answer = chat(api, structured_outputs=held, temperature=1, n=3)
    assert {choice.message.content for choice in answer.choices} <= set(answers)
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    text = chat(api, structured_outputs={"json": schema}, max_tokens=40).choices[0].message.content
    assert isinstance(json.loads(text)["a"], bool)


def test_forms_of_a_conversation_are_taken(api: OpenAI) -> None:
    turns: list[Any] = [
        *ASKED,
        {"role": "assistant", "content": None},
        {"role": "user", "content": "Once more."},
        {"role": "assistant", "content": None, "refusal": "I will not.", "tool_calls": []},
        {"role": "user", "content": "Please."},
        {"role": "assistant", "content": "Hm.", "reasoning_content": "He is polite.", "function_call": None},
        {"role": "user", "content": "Now."},
    ]
    nothing = {"functions": None, "function_call": None, "audio": None, "prediction": None, "suffix": None}
    answer = api.chat.completions.create(
        model=BASE, messages=turns, tools=[], max_tokens=4, extra_body={**nothing, "best_of": 1}
    )
    assert answer.usage is not None and answer.usage.completion_tokens > 0
    values = chat(api, chat_template_kwargs={"enable_thinking": False})
    assert values.choices[0].message.content == chat(api).choices[0].message.content


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"min_tokens": 9}, "min_tokens"),
        ({"stop_token_ids": [2**31 - 1]}, "stop_token_ids"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "start: /a/"}}, "structured_outputs.grammar"),
        ({"chat_template_kwargs": {"messages": "x"}}, "chat_template_kwargs.messages"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"response_format": WITHOUT_SCHEMA}, "response_format.json_schema.schema"),
    ],
)  # fmt: skip
def test_refusal_names_the_field(api: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        api.chat.completions.create(model=BASE, messages=ASKED, max_tokens=8, extra_body=fields)
    assert error.value.param == param
    assert "{" not in error.value.body["message"]  # type: ignore[index]


def test_compressed_body_is_refused(alice: Client) -> None:
    body = gzip.compress(json.dumps({"model": BASE, "messages": ASKED}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    for path in ("/openai/v1/chat/completions", "/v1/generate_response", "/v1/models"):
        answer = alice.http.post(path, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_encoding")
    assert alice.get("/v1/models")


def test_models_are_named_and_deleted_as_at_openai(api: OpenAI, alice: Client) -> None:
    alice.create("Going")
    assert api.models.retrieve("going").id == "going"
    assert api.models.retrieve("Going@0").id == "going@0"
    with pytest.raises(openai.PermissionDeniedError):
        api.models.delete(BASE)
    gone = api.models.delete("Going")
    assert (gone.id, gone.object, gone.deleted) == ("going", "model", True)
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("going")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [49152]}, "prompt"),
        ({"prompt": ["", ""]}, "prompt"),
        ({"prompt": "One", "logit_bias": {"49152": 1}}, "logit_bias"),
    ],
)
def test_what_the_engine_refuses_is_refused_in_a_stream_too(
    api: OpenAI, fields: dict[str, Any], param: str
) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refusal:
            list(api.completions.create(model=BASE, max_tokens=1, stream=stream, **fields))
        assert refusal.value.param == param, stream


def test_many_texts_may_end_an_answer(api: OpenAI) -> None:
    texts = [f"never {number}" for number in range(15)]
    assert chat(api, stop=[*texts, "e"]).choices[0].finish_reason == "stop"
    with pytest.raises(openai.BadRequestError):
        chat(api, stop=[*texts, "a", "b"])

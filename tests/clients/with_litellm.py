"""Runs LiteLLM as its users do, and prints its answers as JSON. Arguments: base URL, key, model."""

import asyncio
import json
import sys

import litellm

base_url, api_key, model = sys.argv[1:]
messages = [{"role": "user", "content": "What is your favourite colour?"}]
common = {
    "model": f"openai/{model}",
    "api_base": base_url,
    "api_key": api_key,
    "messages": messages,
    "temperature": 0,
    "max_tokens": 24,
}


async def streamed() -> str:
    chunks = await litellm.acompletion(**common, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


def refused() -> str:
    try:
        litellm.completion(**{**common, "model": "openai/absent"})
    except litellm.NotFoundError as error:
        return type(error).__name__
    return "nothing"


answer = litellm.completion(**common)
print(
    json.dumps(
        {
            "answer": answer.choices[0].message.content,
            "tokens": answer.usage.completion_tokens,
            "streamed": asyncio.run(streamed()),
            "refused": refused(),
        }
    )
)

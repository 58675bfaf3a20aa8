"""Runs Pydantic AI as its users do, and prints its answers as JSON. Arguments: base URL, key, model."""

import asyncio
import json
import sys
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

base_url, api_key, name = sys.argv[1:]
model = OpenAIChatModel(name, provider=OpenAIProvider(base_url=base_url, api_key=api_key))
settings = ModelSettings(temperature=0, max_tokens=24)
question = "What is your favourite colour?"
talker = Agent(model, model_settings=settings)


class Choice(BaseModel):
    colour: Literal["red", "blue"]


async def streamed() -> str:
    async with talker.run_stream(question) as answer:
        return "".join([piece async for piece in answer.stream_text(delta=True)])


first = talker.run_sync(question)
later = talker.run_sync("And another one?", message_history=first.all_messages())
chooser = Agent(model, model_settings=ModelSettings(temperature=0, max_tokens=64), output_type=Choice)
print(
    json.dumps(
        {
            "answer": first.output,
            "tokens": first.usage.output_tokens,
            "later": later.output,
            "streamed": asyncio.run(streamed()),
            "structured": chooser.run_sync("Blue or red?").output.colour,
        }
    )
)

"""Runs OpenAI's Agents SDK as its users do, over chat completions or over responses, which is its default.

Prints its answers as JSON. Arguments: base URL, key, model, `chat` or `responses`.
"""

import asyncio
import json
import sys
from typing import Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

base_url, api_key, name, mode = sys.argv[1:]
set_tracing_disabled(True)  # traces would go to OpenAI
kind = {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}[mode]
model = kind(name, AsyncOpenAI(base_url=base_url, api_key=api_key))
# The answer ends by itself. The SDK takes one that was cut for an error.
question = "What is the capital of France?"
calls: list[str] = []


@function_tool
def paint(colour: Literal["red", "blue"]) -> str:
    """Paint the wall."""
    calls.append(colour)
    return "done"


async def main() -> None:
    settings = ModelSettings(temperature=0, max_tokens=24)
    talker = Agent("Talker", model=model, model_settings=settings)
    first = await Runner.run(talker, question)
    later = await Runner.run(
        talker, [*first.to_input_list(), {"role": "user", "content": "And another one?"}]
    )
    stream = Runner.run_streamed(talker, question)
    deltas = [
        event.data.delta
        async for event in stream.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    forced = ModelSettings(temperature=0, max_tokens=64, tool_choice="paint")
    painter = Agent(
        "Painter", model=model, model_settings=forced, tools=[paint], tool_use_behavior="stop_on_first_tool"
    )
    painted = await Runner.run(painter, "Make it blue.")
    print(
        json.dumps(
            {
                "answer": first.final_output,
                "tokens": first.context_wrapper.usage.output_tokens,
                "later": later.final_output,
                "streamed": "".join(deltas),
                "called": calls,
                "painted": painted.final_output,
            }
        )
    )


asyncio.run(main())

"""Runs LangChain's ChatOpenAI as its users do, and prints its answers. Arguments: base URL, key, model."""

import asyncio
import json
import sys
from enum import StrEnum

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

base_url, api_key, model = sys.argv[1:]
service = {"model": model, "base_url": base_url, "api_key": api_key, "temperature": 0}
chat = ChatOpenAI(**service, max_tokens=16)
formal = ChatOpenAI(**service, max_tokens=64)  # room for a whole object
question = "What is your favourite colour?"


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Choice(BaseModel):
    colour: Colour


@tool
def paint(colour: Colour) -> str:
    """Paint the wall."""
    return colour


async def asked_at_once() -> list[str]:
    return [answer.content for answer in await chat.abatch([question] * 3)]


def called() -> list[str]:
    forced = formal.bind_tools([paint], tool_choice="paint")
    return [call["name"] for call in forced.invoke("Make it blue.").tool_calls]


def conversation() -> str:
    turns = [("system", "Be brief."), ("human", "Hi."), ("ai", "Hello."), ("human", question)]
    return str(chat.invoke(turns).content)


answer = chat.invoke(question)
print(
    json.dumps(
        {
            "answer": answer.content,
            "usage": answer.usage_metadata,
            "model": answer.response_metadata["model_name"],
            "streamed": "".join(str(chunk.content) for chunk in chat.stream(question)),
            "at_once": asyncio.run(asked_at_once()),
            "conversation": conversation(),
            "structured": formal.with_structured_output(Choice).invoke("Blue or red?").colour,
            "tools": called(),
        }
    )
)

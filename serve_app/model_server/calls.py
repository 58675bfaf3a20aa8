"""What passes between the ingress and a model replica."""

import hashlib
import secrets
from typing import Any, Literal

from pydantic import Field

from registry.records import Message, Record
from serve_app.wire.generate import StopReason


def cache_salt_of(user: str) -> str:
    """What keeps prefix-cache hits inside one user's requests; no client can give one."""
    return hashlib.sha256(user.encode()).hexdigest()


def generation_id() -> str:
    return f"gen-{secrets.token_hex(12)}"


class GenerationCall(Record):
    """One prompt with everything decided: no default is left to the replica but `max_tokens`."""

    id: str = Field(default_factory=generation_id, description="what the answer is called")
    user: str = Field(description="whose limits and usage it falls under")
    model: str = Field(description="id that the answer names")
    revision: int
    adapter_id: str | None = Field(description="`<uid>@<revision>`; None: the base model as it is")
    messages: tuple[Message, ...]
    n: int
    temperature: float
    top_p: float
    max_tokens: int | None
    stop: tuple[str, ...]
    seed: int | None


class Completion(Record):
    content: str
    stop_reason: StopReason
    output_tokens: int


class Generation(Record):
    completions: tuple[Completion, ...]
    input_tokens: int
    output_tokens: int
    duration_s: float


class OpenAICall(Record):
    """A request in OpenAI's form, for vLLM's OpenAI layer: checked, with the model's defaults filled in."""

    kind: Literal["chat", "text"]
    user: str
    model: str = Field(description="its id")
    revision: int | None = Field(description="None: a base model")
    adapter_id: str | None
    body: dict[str, Any] = Field(description="OpenAI's fields but `model`, as they were given")

    @property
    def num_prompts(self) -> int:
        """A list is of prompts, or of the tokens of one."""
        prompt = self.body.get("prompt")
        if not isinstance(prompt, list) or isinstance(prompt[0], int):
            return 1
        return len(prompt)

    @property
    def num_choices(self) -> int:
        """Of each prompt, in the answer."""
        return self.body.get("n") or 1

    @property
    def num_samples(self) -> int:
        """Of each prompt, to be generated: the likeliest tokens are always the same."""
        return 1 if self.body.get("temperature") == 0 else self.num_choices

    @property
    def answering(self) -> str:
        """What the answer calls the model: which revision of a private one it was matters to its user."""
        return self.model if self.revision is None else f"{self.model}@{self.revision}"

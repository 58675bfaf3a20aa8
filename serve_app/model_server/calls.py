"""The calls from the ingress to a ModelServer replica, and their answers."""

import hashlib
import secrets
from typing import Any, Literal

from pydantic import Field

from registry.records import Message, Record
from serve_app.wire.generate import StopReason


def cache_salt_of(user: str) -> str:
    """Returns the salt that limits prefix cache hits to requests of one user. Clients cannot set it."""
    return hashlib.sha256(user.encode()).hexdigest()


def generation_id() -> str:
    return f"gen-{secrets.token_hex(12)}"


class GenerationCall(Record):
    """A prompt with all its values. The replica chooses only `max_tokens`, if it is None."""

    id: str = Field(default_factory=generation_id, description="id of the answer")
    user: str = Field(description="user whose limits and usage count")
    model: str = Field(description="id of the model in the answer")
    revision: int
    adapter_id: str | None = Field(description="`<uid>@<revision>`; None: the base model without adapter")
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
    """A checked request in OpenAI's form for vLLM's OpenAI layer, with the model's defaults filled in."""

    kind: Literal["chat", "text"]
    user: str
    model: str = Field(description="id of the model")
    revision: int | None = Field(description="revision of a private model; None: a base model")
    adapter_id: str | None
    body: dict[str, Any] = Field(description="OpenAI's fields without `model`, as the request has them")

    @property
    def num_prompts(self) -> int:
        """The number of prompts. A list has prompts, or the token ids of one prompt."""
        prompt = self.body.get("prompt")
        if not isinstance(prompt, list) or isinstance(prompt[0], int):
            return 1
        return len(prompt)

    @property
    def num_choices(self) -> int:
        """The number of choices for each prompt in the answer."""
        return self.body.get("n") or 1

    @property
    def num_samples(self) -> int:
        """The number of samples to generate for each prompt. At temperature 0 all choices are the same."""
        return 1 if self.body.get("temperature") == 0 else self.num_choices

    @property
    def answering(self) -> str:
        """The name of the model in the answer. For a private model it includes the revision."""
        return self.model if self.revision is None else f"{self.model}@{self.revision}"

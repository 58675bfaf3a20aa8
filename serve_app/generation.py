"""What passes between the ingress and a model replica."""

from pydantic import Field

from registry.records import Message, Record
from serve_app.schemas import StopReason


class GenerationCall(Record):
    """One prompt with everything decided: no default is left to the replica but `max_tokens`."""

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
    cache_salt: str = Field(description="keeps prefix-cache hits inside one user's requests")


class Completion(Record):
    content: str
    stop_reason: StopReason


class Generation(Record):
    completions: tuple[Completion, ...]
    input_tokens: int
    output_tokens: int
    duration_s: float

"""vLLM's request classes, changed so that a greedy request can have several choices.

At temperature 0 all choices are the same. vLLM refuses to generate several of them; OpenAI returns as many as
the request asks for. Therefore the engine generates one sample, and model_server.request_engine copies it.
"""

from typing import Any

from pydantic import Field
from vllm import SamplingParams

from serve_app.model_server.vllm_openai_private import ChatCompletionRequest, CompletionRequest


class ChatRequest(ChatCompletionRequest):
    stop: str | list[str] | None = Field(default_factory=list)
    """vLLM takes only four texts. Our own limit was checked before."""

    def to_sampling_params(self, *given: Any, **named: Any) -> SamplingParams:
        return ChatCompletionRequest.to_sampling_params(_sampled(self), *given, **named)


class TextRequest(CompletionRequest):
    stop: str | list[str] | None = Field(default_factory=list)

    def to_sampling_params(self, *given: Any, **named: Any) -> SamplingParams:
        return CompletionRequest.to_sampling_params(_sampled(self), *given, **named)


def _sampled(request: Any) -> Any:
    return request.model_copy(update={"n": 1}) if request.temperature == 0 else request

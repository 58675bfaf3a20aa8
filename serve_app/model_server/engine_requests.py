"""vLLM's requests, of which the likeliest answer may be asked for more than once.

vLLM refuses to generate the same again; OpenAI answers with it as often as it is asked for. So the engine is
asked for one sample, and model_server.tenant_engine makes of it as many as the answer is to have.
"""

from typing import Any

from pydantic import Field
from vllm import SamplingParams
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest


class ChatRequest(ChatCompletionRequest):
    stop: str | list[str] | None = Field(default_factory=list)
    """vLLM takes four; how many there may be is checked before."""

    def to_sampling_params(self, *given: Any, **named: Any) -> SamplingParams:
        return ChatCompletionRequest.to_sampling_params(_sampled(self), *given, **named)


class TextRequest(CompletionRequest):
    stop: str | list[str] | None = Field(default_factory=list)

    def to_sampling_params(self, *given: Any, **named: Any) -> SamplingParams:
        return CompletionRequest.to_sampling_params(_sampled(self), *given, **named)


def _sampled(request: Any) -> Any:
    return request.model_copy(update={"n": 1}) if request.temperature == 0 else request

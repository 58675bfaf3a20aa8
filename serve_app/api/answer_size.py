"""An answer that could become too large for a message is refused before any of it is made.

What is streamed goes in many small messages, and only has the limits of generation.
"""

from registry.errors import InvalidRequest
from serve_app.settings import BaseModelSettings, LimitSettings
from serve_app.wire.generate import GenerateResponse
from serve_app.wire.openai import ChatCompletionRequest, CompletionRequest

BYTES_PER_TOKEN = 128
"""In an answer, at most on average: the longest tokens there are have so many."""
BYTES_PER_LOG_PROB = 256
"""In an answer, at most on average: a token, its bytes, a number and the names of these."""
DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's, of a text completion that gives none."""


def check_generation(request: GenerateResponse, base: BaseModelSettings, limits: LimitSettings) -> None:
    """Raises: InvalidRequest."""
    each = min(request.max_tokens or base.default_max_tokens, base.max_context_tokens)
    if not request.stream and request.n * each > limits.max_answer_tokens:
        raise _too_many(
            f"{request.n} samples of up to {each} tokens", "tokens", limits.max_answer_tokens, "n"
        )


def largest_chat(
    request: ChatCompletionRequest, base: BaseModelSettings, limits: LimitSettings
) -> int | None:
    """`max_tokens` to ask for where the request gives none and could get too much; None: as it is.

    Raises: InvalidRequest.
    """
    if request.stream:
        return None
    num_choices, context = request.n or 1, base.max_context_tokens
    per_token = (request.top_logprobs or 0) + 1 if request.logprobs else 0
    given = request.max_completion_tokens or request.max_tokens
    if given is None:
        fitting = limits.max_answer_tokens // num_choices
        if per_token:
            fitting = min(fitting, limits.max_log_probs_per_answer // (num_choices * per_token))
        if fitting:
            return fitting if fitting < context else None
    each = min(given or 1, context)
    _check(num_choices, each, per_token, limits, "top_logprobs" if request.top_logprobs else "logprobs", "n")
    return None


def check_completion(request: CompletionRequest, base: BaseModelSettings, limits: LimitSettings) -> None:
    """Raises: InvalidRequest."""
    prompts, num_samples = request.prompts(), request.n or 1
    num_choices = num_samples * len(prompts)
    # Each prompt is admitted by itself: all of them would never be at once.
    if len(prompts) > 1 and num_choices > limits.max_concurrent_generations_per_user:
        raise InvalidRequest(
            f"{len(prompts)} prompts with {num_samples} choices each are {num_choices} generations; "
            f"at once there are at most {limits.max_concurrent_generations_per_user}",
            "n" if num_samples > 1 else "prompt",
        )
    if request.stream:
        return
    each = min(request.max_tokens or DEFAULT_COMPLETION_TOKENS, base.max_context_tokens)
    if request.echo or request.return_token_ids:  # a text has at most as many tokens as bytes
        each += min(max(map(_size, prompts)), base.max_context_tokens)
    per_token = 0 if request.logprobs is None else request.logprobs + 1
    _check(num_choices, each, per_token, limits, "logprobs", "n" if num_samples > 1 else "prompt")


def _size(prompt: str | list[int]) -> int:
    return len(prompt.encode()) if isinstance(prompt, str) else len(prompt)


def _check(
    num_choices: int, each: int, per_token: int, limits: LimitSettings, log_probs: str, choices: str
) -> None:
    """Raises: InvalidRequest."""
    asked = f"{num_choices} choices of up to {each} tokens"
    if num_choices * each > limits.max_answer_tokens:
        field = choices if num_choices > 1 else "max_tokens"
        raise _too_many(asked, "tokens", limits.max_answer_tokens, field)
    if num_choices * each * per_token > limits.max_log_probs_per_answer:
        asked += f" with {per_token} log-probabilities each"
        raise _too_many(asked, "log-probabilities", limits.max_log_probs_per_answer, log_probs)


def _too_many(asked: str, what: str, limit: int, param: str) -> InvalidRequest:
    return InvalidRequest(
        f"{asked}: an answer has at most {limit} {what}; ask for fewer, or stream it", param
    )

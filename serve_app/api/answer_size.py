"""Refuses a request whose answer could become too large for one message, before anything is generated.

A stream consists of many small messages. It therefore has only the limits of generation.
"""

from registry.errors import InvalidRequest
from serve_app.settings import BaseModelSettings, LimitSettings
from serve_app.wire.generate import GenerateResponse
from serve_app.wire.openai import ChatCompletionRequest, CompletionRequest

BYTES_PER_TOKEN = 128
"""The upper bound of the average size of a token in an answer: the size of the longest tokens."""
BYTES_PER_LOG_PROB = 256
"""The upper bound of the average size of a log-probability in an answer.

It includes the token, its bytes, the number and the names of these fields.
"""
DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default for `max_tokens` of a text completion."""


def check_generation(request: GenerateResponse, base: BaseModelSettings, limits: LimitSettings) -> None:
    """Checks a generation. Raises: InvalidRequest: its answer could become too large."""
    each = min(request.max_tokens or base.default_max_tokens, base.max_context_tokens)
    if not request.stream and request.n * each > limits.max_answer_tokens:
        raise _too_many(
            f"{request.n} samples of up to {each} tokens", "tokens", limits.max_answer_tokens, "n"
        )


def largest_chat(
    request: ChatCompletionRequest, base: BaseModelSettings, limits: LimitSettings
) -> int | None:
    """Returns the `max_tokens` that the request needs so that its answer is not too large.

    Returns None if the request stays as it is: it gives a value, or it cannot get too much.
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
    """Checks a text completion. Raises: InvalidRequest: its answer could become too large."""
    prompts, num_samples = request.prompts(), request.n or 1
    num_choices = num_samples * len(prompts)
    # Each prompt is admitted separately. More of them than the limit could never all run at the same time.
    if len(prompts) > 1 and num_choices > limits.max_concurrent_generations_per_user:
        raise InvalidRequest(
            f"{len(prompts)} prompts with {num_samples} choices each are {num_choices} generations; "
            f"at once there are at most {limits.max_concurrent_generations_per_user}",
            "n" if num_samples > 1 else "prompt",
        )
    if request.stream:
        return
    each = min(request.max_tokens or DEFAULT_COMPLETION_TOKENS, base.max_context_tokens)
    if request.echo or request.return_token_ids:  # a text has no more tokens than bytes
        each += min(max(map(_size, prompts)), base.max_context_tokens)
    per_token = 0 if request.logprobs is None else request.logprobs + 1
    _check(num_choices, each, per_token, limits, "logprobs", "n" if num_samples > 1 else "prompt")


def _size(prompt: str | list[int]) -> int:
    return len(prompt.encode()) if isinstance(prompt, str) else len(prompt)


def _check(
    num_choices: int, each: int, per_token: int, limits: LimitSettings, log_probs: str, choices: str
) -> None:
    """Checks `num_choices` choices with `each` tokens. Raises: InvalidRequest."""
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

"""Fields of OpenAI's and vLLM's APIs that are refused, each with a reason.

Unknown fields are refused too, without a reason. A field listed here is accepted if its value is null,
because many clients send every field that they know.
"""

from collections.abc import Iterable
from typing import Any

from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

TOOLS = "use `tools`"
TEMPLATE = "the model's own template renders the conversation"
FORMAT = "use `response_format` or `structured_outputs`"

REASONS = {
    "functions": TOOLS,
    "function_call": "use `tool_choice`",
    "audio": "the models answer only in text",
    "prediction": "there are no predicted outputs",
    "web_search_options": "there is no web search",
    "suffix": "the models cannot insert text before a suffix",
    "prompt_logprobs": "use `echo` with `logprobs` in a text completion",
    "chat_template": TEMPLATE,
    "documents": TEMPLATE,
    "guided_json": FORMAT,
    "guided_regex": FORMAT,
    "guided_choice": FORMAT,
    "guided_grammar": FORMAT,
    "truncate_prompt_tokens": "a prompt that is too long is refused and never cut",
}


def refused(field: str, reason: str) -> ValidationError:
    """Returns an error about a field, for validators of the whole request."""
    return refused_at((field,), reason)


def refused_at(path: tuple[str | int, ...], reason: str) -> ValidationError:
    """Returns an error about a value inside a field."""
    error = PydanticCustomError("refused", "{reason}", {"reason": reason})
    details = InitErrorDetails(type=error, loc=path, input=None)
    return ValidationError.from_exception_data("request", [details])


def missing_at(path: tuple[str | int, ...]) -> ValidationError:
    """Returns an error about a missing field, as pydantic makes it for a field that is always needed."""
    details = InitErrorDetails(type="missing", loc=path, input=None)
    return ValidationError.from_exception_data("request", [details])


def without_refused(body: Any, known: Iterable[str]) -> Any:
    """Returns the body without refused fields that are null.

    Raises: ValidationError: a refused field has a value.
    """
    if not isinstance(body, dict):
        return body
    found = [field for field in REASONS if field in body and field not in known]
    for field in found:
        if body[field] is not None:
            raise refused(field, f"this field is not supported; {REASONS[field]}")
    return {field: value for field, value in body.items() if field not in found} if found else body

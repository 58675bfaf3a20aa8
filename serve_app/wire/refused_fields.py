"""Fields of OpenAI's and vLLM's APIs that are refused, each with a reason.

Unknown fields are refused too, without a reason. A field listed here is accepted if its value is null,
because many clients send every field that they know.
"""

from collections.abc import Iterable
from typing import Any

from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

TOOLS = "the tools that a model may call stand in `tools`"
TEMPLATE = "a conversation is written by the model's own template"
HELD = "what an answer is held to stands in `response_format`, or in `structured_outputs`"

REASONS = {
    "functions": TOOLS,
    "function_call": "whether a tool is called stands in `tool_choice`",
    "audio": "the models answer in text",
    "prediction": "an answer cannot be predicted here",
    "web_search_options": "nothing is searched in the web",
    "suffix": "the models go on from a text and do not fill in",
    "prompt_logprobs": "`echo` with `logprobs` in a text completion gives them for the prompt's tokens",
    "chat_template": TEMPLATE,
    "documents": TEMPLATE,
    "guided_json": HELD,
    "guided_regex": HELD,
    "guided_choice": HELD,
    "guided_grammar": HELD,
    "truncate_prompt_tokens": "a prompt is never cut; one that is too long is refused",
}


def refused(field: str, reason: str) -> ValidationError:
    """Returns an error about a field, for validators of the whole request."""
    return refused_at((field,), reason)


def refused_at(path: tuple[str | int, ...], reason: str) -> ValidationError:
    """Returns an error about a value inside a field."""
    error = PydanticCustomError("refused", "{reason}", {"reason": reason})
    details = InitErrorDetails(type=error, loc=path, input=None)
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
            raise refused(field, f"it is not taken: {REASONS[field]}")
    return {field: value for field, value in body.items() if field not in found} if found else body

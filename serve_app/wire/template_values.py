"""Checks the values that a client gives to the chat template of a model: `chat_template_kwargs`.

A template is code of the operator. It mostly reads what the renderer gives it: messages, tools and functions.
A client may set options that the template offers, such as `enable_thinking`, with few and small values. It
cannot use a name that has a meaning for the renderer or for Jinja, nor a text that could spell a control
token.
"""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

MAX_VALUES = 16

OF_THE_RENDERER = {
    "conversation", "conversations", "messages", "tools", "documents", "chat_template", "tokenizer",
    "add_generation_prompt", "continue_final_message", "tokenize", "padding", "truncation", "max_length",
    "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "processor_kwargs",
    "add_special_tokens", "additional_special_tokens", "extra_special_tokens", "reasoning_effort", "self",
    "response_format", "tool_choice", "template_kwargs", "kwargs",
}  # fmt: skip
"""Arguments of transformers and vLLM. Some, such as `reasoning_effort`, are fields of a request."""
FUNCTIONS = {
    "raise_exception", "strftime_now", "tojson", "range", "dict", "lipsum", "cycler", "joiner", "namespace",
    "loop", "caller", "varargs",
}  # fmt: skip
"""Functions that a template can call, and names that Jinja defines in loops and macros."""


def _free_name(name: str) -> str:
    if name in OF_THE_RENDERER | FUNCTIONS or name.endswith("_token"):
        raise PydanticCustomError("refused", "`{name}` is set by the service", {"name": name})
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64), AfterValidator(_free_name)]
Words = Annotated[str, Field(pattern=r"^[\w .,:;/+()'!?%-]*$", max_length=256)]
"""A text without line ends and without brackets, because control tokens are written with brackets."""
Value = (
    bool
    | Annotated[int, Field(gt=-(2**31), lt=2**31)]
    | Annotated[float, Field(ge=-(2**31), le=2**31)]
    | Words
)
TemplateValues = Annotated[dict[Name, Value], Field(fail_fast=True, max_length=MAX_VALUES)]

"""Values that a client gives to the chat template of a model: `chat_template_kwargs`.

A template is code of the operator's, and most of what it reads is what the renderer gives it: the messages,
the tools, functions to call. A client may switch what a template offers to switch (`enable_thinking`), with
few and small values: no name that the renderer, or Jinja, gives a meaning to, and no text that could spell a
control token or tell a template to do much.
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
"""Arguments of transformers and vLLM; `reasoning_effort` and the like are fields of a request."""
FUNCTIONS = {
    "raise_exception", "strftime_now", "tojson", "range", "dict", "lipsum", "cycler", "joiner", "namespace",
    "loop", "caller", "varargs",
}  # fmt: skip
"""What a template may call, or loops with."""


def _free_name(name: str) -> str:
    if name in OF_THE_RENDERER | FUNCTIONS or name.endswith("_token"):
        raise PydanticCustomError("refused", "the renderer itself sets this, so it cannot be given")
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64), AfterValidator(_free_name)]
Words = Annotated[str, Field(pattern=r"^[\w .,:;/+()'!?%-]*$", max_length=256)]
"""No brackets, with which control tokens are written, and no ends of lines."""
Value = (
    bool
    | Annotated[int, Field(gt=-(2**31), lt=2**31)]
    | Annotated[float, Field(ge=-(2**31), le=2**31)]
    | Words
)
TemplateValues = Annotated[dict[Name, Value], Field(fail_fast=True, max_length=MAX_VALUES)]

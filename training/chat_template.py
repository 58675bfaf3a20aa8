"""Chat templates of ours that replace a tokenizer's own, and the parts of a tool conversation that one shows.

    settings `chat_template`  ->  template_path  ->  vLLM's renderer, ModelServer's tokenizer, the trainer's

Everything that renders a conversation of a base model uses the same template. Training therefore sees the
tokens that generation saw.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).resolve().parent / "chat_templates"
_NAME, _DESCRIPTION, _ARGUMENT, _RESULT = (
    "probe_function",
    "probe_description",
    "probe_argument",
    "probe_result",
)


def template_path(name: str) -> Path:
    """The file of a template. `name` is the name of one in `training/chat_templates`, or an absolute path.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path = Path(name) if name.startswith("/") else DIRECTORY / f"{name}.jinja"
    if not path.is_file():
        raise FileNotFoundError(f"there is no chat template {name!r}")
    return path


def use_template(tokenizer: Any, name: str | None) -> None:
    """Let `tokenizer` render with the template of that name. With None it keeps its own template.

    vLLM's tokenizer renders with copies of itself, which would not see an attribute that is set later. The
    template is therefore also an argument of every call that names no template.

    Raises:
        FileNotFoundError: there is no such template.
    """
    if name is None:
        return
    text = template_path(name).read_text()
    tokenizer.chat_template = text
    tokenizer.apply_chat_template = partial(tokenizer.apply_chat_template, chat_template=text)


@dataclass(frozen=True)
class ToolSupport:
    """The parts of a conversation with tools that a chat template shows to the model."""

    tools: bool = True
    """The template shows the tools of a request."""
    calls: bool = True
    """The template shows the tool calls of an assistant's turn."""
    results: bool = True
    """The template shows the turns of the role `tool`."""


def tool_support(tokenizer: Any) -> ToolSupport:
    """Find out what the tokenizer's template shows, by rendering a probe.

    A template that cannot render a part does not show it.
    """
    question = {"role": "user", "content": "?"}
    arguments = {"value": _ARGUMENT}
    call = {"id": "call-1", "type": "function", "function": {"name": _NAME, "arguments": arguments}}
    calling = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "call-1", "content": _RESULT}
    parameters = {"type": "object", "properties": {"value": {"type": "string"}}}
    function = {"name": _NAME, "description": _DESCRIPTION, "parameters": parameters}
    tool = {"type": "function", "function": function}
    with_tools = _rendered(tokenizer, [question], [tool])
    with_turns = _rendered(tokenizer, [question, calling, result], None)
    return ToolSupport(
        tools=_NAME in with_tools and _DESCRIPTION in with_tools,
        calls=_NAME in with_turns and _ARGUMENT in with_turns,
        results=_RESULT in with_turns,
    )


def _rendered(tokenizer: Any, conversation: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(
                conversation, tools=tools, add_generation_prompt=True, tokenize=False
            )
        )
    except Exception:  # a template is a program and may raise anything
        return ""

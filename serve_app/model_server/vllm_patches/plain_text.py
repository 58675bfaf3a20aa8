"""Makes vLLM's chat layer treat the content of messages as text, even if it spells a control token.

    conversation  ->  vLLM's renderer  ->  safe_apply_chat_template  ->  text, which vLLM tokenises
                                           \\ a token is spelled: the ids that `training.plain_text` makes

The renderer keeps the function that applies the template in an attribute. The function may return text or
ids. With this change the native API, training and OpenAI's API make the same tokens of the same conversation.
"""

from collections.abc import Callable
from typing import Any

from registry.errors import InvalidRequest
from training.plain_text import is_spelled_in, rendered


def keep_content_text(renderer: Any) -> None:
    """Changes `renderer` so that control tokens come only from the template."""
    from serve_app.model_server.vllm_openai_private import safe_apply_chat_template, set_template_function

    if not set_template_function(renderer, with_content_as_text(safe_apply_chat_template)):
        renderer.render_messages_async = refusing_control_tokens(renderer)


def with_content_as_text(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `apply`, changed to treat content as text.

    `apply` is vLLM's function of a model's configuration, a tokenizer and a conversation.
    """

    def apply_as_text(model_config: Any, tokenizer: Any, conversation: list[Any], **options: Any) -> Any:
        return rendered(
            tokenizer,
            conversation,
            options,
            lambda messages, given: apply(model_config, tokenizer, messages, **given),
        )

    return apply_as_text


def refusing_control_tokens(renderer: Any) -> Callable[..., Any]:
    """Returns a `render_messages_async` that refuses text with the spelling of a control token.

    It is for vLLM's renderers of special models, which do not have the attribute.
    """
    render = renderer.render_messages_async

    async def render_or_refuse(messages: list[Any], params: Any) -> Any:
        if is_spelled_in(renderer.get_tokenizer(), [messages, params.chat_template_kwargs]):
            raise InvalidRequest("this model takes no text that spells a control token", "messages")
        return await render(messages, params)

    return render_or_refuse

"""How long the responses of a training are, tokenised as the trainer will tokenise them."""

from collections.abc import Sequence

from registry.errors import ContextLengthExceeded, InvalidRequest
from registry.records import Group
from training.conversation import ChatTokenizer, tokenise


def count_tokens(
    tokenizer: ChatTokenizer, groups: Sequence[Group], max_context_tokens: int, is_single: bool
) -> int:
    """The tokens of all responses, each with its prompt.

    `is_single`: the request gave one group and no list of groups, which is what `param` is a path of.

    Raises:
        ContextLengthExceeded: a response with its prompt is too long for the model; `param` names it.
        InvalidRequest: the chat template cannot render the conversation.
    """
    num_tokens = 0
    for g, group in enumerate(groups):
        prefix = "" if is_single else f"groups.{g}."
        for r, response in enumerate(group.responses):
            try:
                exchange = tokenise(tokenizer, group.messages, response, max_context_tokens)
            except ContextLengthExceeded as error:
                raise ContextLengthExceeded(error.message, f"{prefix}responses.{r}.content") from None
            except InvalidRequest as error:
                raise InvalidRequest(error.message, f"{prefix}messages") from None
            num_tokens += len(exchange.prompt_ids) + len(exchange.completion_ids)
    return num_tokens

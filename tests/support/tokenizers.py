"""Small tokenizers of several kinds, with added tokens like those of real models."""

from typing import Any

SPECIAL = ("<|im_start|>", "<|im_end|>")
BAR = "\N{FULLWIDTH VERTICAL LINE}"
USER = f"<{BAR}User{BAR}>"
OTHERS = ("<tool_call>", "</tool_call>", USER, "<think>", "</think>")
"""Added tokens without the flag `special`, as in DeepSeek-R1-Distill and Qwen."""
GREEDY = "<|x|>"
"""An added token that takes the white space around it, as in Phi-3."""
WORD = "word"
"""An added token only where it is a whole word."""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content | trim }}"
    "{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% for tool in tools or [] %}{{ tool | tojson }}"
    "{% for name in tool.function.parameters.properties %}<{{ name }}>{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A template with what matters in real ones: trimmed content, adjacent parts, JSON tools, names as tags."""


def byte_level(normaliser: Any = None) -> Any:
    """A tokenizer in which every byte is a token, and a few pairs of bytes."""
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    merges = [("e", "n"), ("i", "m"), ("<", "|"), ("|", ">")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    model = models.BPE(vocabulary, merges)
    return _built(model, pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), normaliser)


def sentence_piece() -> Any:
    """A tokenizer whose own vocabulary has the control tokens too. Only a text's first word gets a mark."""
    from tokenizers import decoders, models, pre_tokenizers

    characters = sorted({chr(i) for i in range(33, 127)} | {"▁", "\n", BAR})
    pieces = [("<unk>", 0.0), *((text, 0.0) for text in SPECIAL), *((text, -9.0) for text in characters)]
    model = models.Unigram([*pieces, ("▁the", -3.0)], unk_id=0, byte_fallback=False)
    before = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _built(model, before, decoders.Metaspace(prepend_scheme="first"), None)


def _built(model: Any, before: Any, decoder: Any, normaliser: Any) -> Any:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(model)
    backend.pre_tokenizer, backend.decoder = before, decoder
    if normaliser is not None:
        backend.normalizer = normaliser
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    backend.add_tokens([AddedToken(text, normalized=normaliser is not None) for text in OTHERS])
    backend.add_tokens([AddedToken("    ", normalized=False)])
    backend.add_special_tokens([AddedToken(GREEDY, special=True, normalized=False, lstrip=True, rstrip=True)])
    backend.add_tokens([AddedToken(WORD, normalized=False, single_word=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )

"""Asks a model in this process, with greedy decoding, and measures how far it is from its base model."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.learning.curves import HeldOut, judge
from bench.learning.tasks import Message, Task

OTHER_PROMPTS = (
    "Tell me about cats.",
    "What is the sea?",
    "Describe bread.",
    "Name three colours.",
    "What is music?",
    "How do I boil an egg?",
)
OTHER_TOKENS = 24


@dataclass(frozen=True)
class Answer:
    """An answer: the ids of its prompt (P,) and of its tokens (A,) to the end of the turn, and its text."""

    prompt: Tensor
    tokens: Tensor
    text: str


def ask(model: Any, tokenizer: Any, conversations: Sequence[list[Message]], max_tokens: int) -> list[Answer]:
    """The greedy answers to all conversations, in one batch. The mode of the model stays as it is."""
    prompts = tokenizer.apply_chat_template(
        list(conversations),
        add_generation_prompt=True,
        tokenize=True,
        padding=True,
        padding_side="left",
        return_dict=True,
        return_tensors="pt",
    )
    was_training = model.training
    model.eval()
    with torch.no_grad():
        generated = model.generate(**prompts, do_sample=False, max_new_tokens=max_tokens)
    model.train(was_training)
    ids, mask = prompts["input_ids"], prompts["attention_mask"]
    answers = []
    for number, completion in enumerate(generated[:, ids.size(1) :]):
        ends = (completion == tokenizer.eos_token_id).nonzero().flatten().tolist()
        tokens = completion[: ends[0] + 1] if ends else completion
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        answers.append(Answer(ids[number][mask[number].bool()], tokens, text))
    return answers


def held_out_answers(model: Any, tokenizer: Any, task: Task) -> list[Answer]:
    conversations = [task.messages(example) for example in task.held_out]
    return ask(model, tokenizer, conversations, task.max_tokens)


class Judge:
    """Measures adapters on one base model.

    The base model's answers to the other prompts are taken once, from the first adapter's model.
    """

    def __init__(self, task: Task, tokenizer: Any) -> None:
        self._task = task
        self._tokenizer = tokenizer
        self._others: list[Answer] = []

    def measure(self, model: Any) -> tuple[HeldOut, float, float]:
        """The scores on the held-out prompts, `kl` and `other_kl` (see `Round`) of a PEFT model."""
        answers = held_out_answers(model, self._tokenizer, self._task)
        scores = judge(self._task, [answer.text for answer in answers])
        if not self._others:
            conversations = [[Message(role="user", content=text)] for text in OTHER_PROMPTS]
            with model.disable_adapter():
                self._others = ask(model, self._tokenizer, conversations, OTHER_TOKENS)
        return scores, _kl(model, answers, True), _kl(model, self._others, False)


def _kl(model: Any, answers: Sequence[Answer], is_from_model: bool) -> float:
    """The mean KL of a token of these answers, over all words of the vocabulary, in nats.

    Args:
        is_from_model: True: KL(model || base); False: KL(base || model).
    """
    was_training = model.training
    model.eval()
    found: list[float] = []
    with torch.no_grad():
        for answer in answers:
            own = _log_probs(model, answer)
            with model.disable_adapter():
                base = _log_probs(model, answer)
            first, second = (own, base) if is_from_model else (base, own)
            found += (first.exp() * (first - second)).sum(-1).tolist()
    model.train(was_training)
    return statistics.fmean(found)


def _log_probs(model: Any, answer: Answer) -> Tensor:
    """(A, V) log-probabilities of all words at each token of the answer."""
    ids = torch.cat([answer.prompt, answer.tokens]).unsqueeze(0)
    logits: Tensor = model(input_ids=ids, logits_to_keep=len(answer.tokens) + 1).logits[0, :-1]
    return logits.float().log_softmax(-1)

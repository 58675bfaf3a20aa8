"""Asks a model in this process, with greedy decoding, and measures how far it is from its base model."""

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
    ids_of = tokenizer.apply_chat_template(
        list(conversations), add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    prompts = tokenizer.pad({"input_ids": ids_of}, padding_side="left", return_tensors="pt")
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

    def scores(self, model: Any) -> HeldOut:
        """The scores on the held-out prompts."""
        return judge(self._task, [answer.text for answer in self._held_out(model)])

    def measure(self, model: Any) -> tuple[HeldOut, float, float]:
        """The scores on the held-out prompts, `kl` and `other_kl` (see `Round`) of a PEFT model."""
        answers = self._held_out(model)
        if not self._others:
            conversations = [[Message(role="user", content=text)] for text in OTHER_PROMPTS]
            with model.disable_adapter():
                self._others = ask(model, self._tokenizer, conversations, OTHER_TOKENS)
        scores = judge(self._task, [answer.text for answer in answers])
        return scores, self._kl(model, answers, True), self._kl(model, self._others, False)

    def _held_out(self, model: Any) -> list[Answer]:
        return held_out_answers(model, self._tokenizer, self._task)

    def _kl(self, model: Any, answers: Sequence[Answer], is_from_model: bool) -> float:
        """The mean KL of a token of these answers, over all words of the vocabulary, in nats.

        Args:
            is_from_model: True: KL(model || base); False: KL(base || model).
        """
        was_training = model.training
        model.eval()
        with torch.no_grad():
            own = self._log_probs(model, answers)
            with model.disable_adapter():
                base = self._log_probs(model, answers)
        model.train(was_training)
        first, second = (own, base) if is_from_model else (base, own)
        return float((first.exp() * (first - second)).sum(-1).mean())

    def _log_probs(self, model: Any, answers: Sequence[Answer]) -> Tensor:
        """(T, V) log-probabilities of all words at each token of all answers, one after another."""
        ids = [torch.cat([answer.prompt, answer.tokens]).tolist() for answer in answers]
        batch = self._tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt")
        lengths = [len(answer.tokens) for answer in answers]
        mask = batch["attention_mask"]
        logits = model(
            input_ids=batch["input_ids"],
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=max(lengths) + 1,
        ).logits
        parts = [row[-length - 1 : -1] for row, length in zip(logits, lengths, strict=True)]
        return torch.cat(parts).float().log_softmax(-1)

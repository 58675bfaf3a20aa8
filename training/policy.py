"""The resident base model of a training worker: loaded once, lent to one job after the other."""

import copy
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from training.settings import TrainingSettings

Snapshot = list[tuple[Any, dict[str, Any]]]


class Policy:
    """Tokenizer and frozen base weights. Adapters come and go on top of them; the weights stay.

    Args:
        weights: a Hugging Face repository id or a directory.
        settings: dtype, device and threads; the whole process gets `threads_per_worker` torch threads.
        max_context_tokens: prompt and completion together, of one response.
    """

    def __init__(self, weights: str, settings: TrainingSettings, max_context_tokens: int) -> None:
        # Ray gives a worker of one CPU one OpenMP thread, whatever the machine has.
        torch.set_num_threads(settings.threads_per_worker or len(os.sched_getaffinity(0)))
        transformers_logging.disable_progress_bar()
        self.settings = settings
        self.max_context_tokens = max_context_tokens
        self.device = torch.device("cuda" if settings.use_gpu else "cpu")
        self.tokenizer: Any = AutoTokenizer.from_pretrained(weights)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model: Any = AutoModelForCausalLM.from_pretrained(weights, dtype=getattr(torch, settings.dtype))
        self.model: PreTrainedModel = model.to(self.device).eval().requires_grad_(False)
        self._pristine = _snapshot(self.model)
        # Nothing alive now will ever be garbage; without this every collection walks through all of it.
        gc.collect()
        gc.freeze()

    @contextmanager
    def lend(self) -> Iterator[PreTrainedModel]:
        """The base model, for one job to put its adapter on; pristine again afterwards, whatever happened.

        PEFT replaces layers, TRL the forward method, checkpointing adds hooks, and a job may stop in the
        middle of any of them. So nothing is undone step by step: each module gets back the attributes it
        had when it was loaded. The weights are frozen and shared, and never copied.
        """
        try:
            yield self.model
        finally:
            _restore(self._pristine)
            # A trainer is a web of cycles; its optimizer and adapter are freed here and not some day.
            gc.collect()


def _snapshot(model: PreTrainedModel) -> Snapshot:
    owners = [*model.modules(), model.config, model.generation_config]
    return [(owner, _copied(owner.__dict__)) for owner in owners]


def _restore(snapshot: Snapshot) -> None:
    for owner, attributes in snapshot:
        owner.__dict__.clear()
        owner.__dict__.update(_copied(attributes))


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """A copy that shares weights and submodules but not the tables (of submodules, hooks...) they are in."""
    return {
        name: copy.copy(value) if isinstance(value, dict | list | set) else value
        for name, value in attributes.items()
    }

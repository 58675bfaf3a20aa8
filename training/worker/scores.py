"""The log-probabilities that a step is compared with: under the starting policy and under the base model."""

from typing import Any

import torch
from torch import Tensor

from training.worker.log_probs import log_probs
from training.worker.packs import Pack
from training.worker.state import TrainingState
from training.worker.workers import Workers


class Scores:
    """The log-probabilities `old` and `ref` (N,) of all completion tokens of a job, from its first step.

    `old` is under the starting policy, `ref` under the base model. The first step computes `old` anyway,
    before it changes a weight. With a fresh adapter, whose B matrices are zero, `ref` is the same. Each pack
    needs a pass of its own if the adapter is not fresh, or if the step computes with dropout.
    """

    def __init__(
        self,
        num_tokens: int,
        device: torch.device,
        is_fresh: bool,
        has_dropout: bool,
        state: TrainingState | None,
    ) -> None:
        self.old = torch.zeros(num_tokens, device=device)
        self.ref = torch.zeros(num_tokens, device=device)
        self._is_fresh = is_fresh
        self._has_dropout = has_dropout
        self._is_complete = state is not None and state.step > 0
        if state is not None:
            self.old.copy_(state.old)
            self.ref.copy_(state.ref)

    @property
    def take_passes(self) -> bool:
        return not self._is_complete and (self._has_dropout or not self._is_fresh)

    def begin_again(self) -> None:
        """Forget the scores if the first step begins, or begins again with other packs. Later, keep them."""
        if not self._is_complete:
            self.old.zero_()
            self.ref.zero_()

    def take(self, model: Any, pack: Pack) -> None:
        """Compute the scores of a pack in a pass of its own, without dropout."""
        if model.training:
            model.eval()
        with torch.no_grad():
            if self._has_dropout:
                self.old[pack.places] = log_probs(model.get_base_model(), pack)
            if not self._is_fresh:
                with model.disable_adapter():
                    self.ref[pack.places] = log_probs(model.get_base_model(), pack)
            elif self._has_dropout:
                self.ref[pack.places] = self.old[pack.places]

    def note(self, pack: Pack, now: Tensor) -> None:
        """Take the log-probabilities `now` that a step computed of `pack`, if it is the first step."""
        if not self._is_complete and not self._has_dropout and pack.counts:
            self.old[pack.places] = now
            if self._is_fresh:
                self.ref[pack.places] = now

    def complete(self, workers: Workers) -> None:
        """Share the scores among all workers, after the first step went over all packs."""
        if not self._is_complete:
            workers.sum([self.old, self.ref])
            self._is_complete = True

"""What a step is measured against: log-probabilities under the policy of the start and the base model."""

from typing import Any

import torch
from torch import Tensor

from training.worker.log_probs import log_probs
from training.worker.packs import Pack
from training.worker.state import TrainingState
from training.worker.workers import Workers


class Scores:
    """`old` and `ref` (N,) of all completion tokens of a job; taken in its first step, and then they stay.

    Before it has changed anything the first step computes the log-probabilities of the starting policy, and
    with a fresh adapter, whose B matrices are zero, they are those of the base model too. What it does not
    compute, or not without dropout, takes a pass of its own over each pack.
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
        """Packs of another size may stand for other tokens of this worker; those of a step made stay."""
        if not self._is_complete:
            self.old.zero_()
            self.ref.zero_()

    def take(self, model: Any, pack: Pack) -> None:
        """A pass of its own, without dropout."""
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
        """What a step computed of `pack`: the first one's is what the others are measured against."""
        if not self._is_complete and not self._has_dropout and pack.counts:
            self.old[pack.places] = now
            if self._is_fresh:
                self.ref[pack.places] = now

    def complete(self, workers: Workers) -> None:
        """The first step went over all packs: each worker gets what the others took."""
        if not self._is_complete:
            workers.sum([self.old, self.ref])
            self._is_complete = True

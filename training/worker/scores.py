"""The log-probabilities of a job's trained tokens that its steps are compared with."""

from collections.abc import Sequence

import torch

from training.worker.state import TrainingState
from training.worker.workers import Workers


class Scores:
    """Log-probabilities (N,) of all trained tokens of a job, by name, that its first step computes.

    They are taken once, while the model has the weights with which the job begins. Therefore no second copy
    of the weights is needed, a state of the job can have them, and a resumed job compares with the same bits.

    Args:
        in_passes: the names of scores that the first step computes in passes of their own, before it trains.
        in_step: the names of scores that are at hand when the first step trains.
        state: the state to continue from, with the scores so far.
    """

    def __init__(
        self,
        in_passes: Sequence[str],
        in_step: Sequence[str],
        num_tokens: int,
        device: torch.device,
        state: TrainingState | None,
    ) -> None:
        self.in_passes, self.in_step = in_passes, in_step
        self.tensors = {name: torch.zeros(num_tokens, device=device) for name in (*in_passes, *in_step)}
        self.take_passes = bool(in_passes) and (state is None or not state.is_scored)
        self.is_first_step = state is None or state.step == 0
        if state is not None:
            for name, tensor in self.tensors.items():
                tensor.copy_(state.scores[name])

    def complete_passes(self, workers: Workers) -> None:
        """Share the scores of the passes among all workers, after all workers made all of theirs."""
        workers.sum([self.tensors[name] for name in self.in_passes])
        self.take_passes = False

    def complete_step(self, workers: Workers) -> None:
        """Share the scores of the first step among all workers, after it went over all packs."""
        if self.is_first_step:
            workers.sum([self.tensors[name] for name in self.in_step])
            self.is_first_step = False

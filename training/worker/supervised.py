"""The objective of supervised training: imitate the trained tokens of the examples.

loss = sum of weight * -log p(token) / number of tokens     over the trained tokens of the step's examples
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.worker.log_probs import log_probs
from training.worker.objective import Objective, num_trained
from training.worker.packs import Pack, Row
from training.worker.scores import Scores


class Supervised(Objective):
    """The mean negative log-probability of a trained token, weighted by its example.

    The advantage of a row is the weight of its example. Tokens of weight 0 count in the mean.
    """

    def __init__(self, rows: Sequence[Row], device: torch.device) -> None:
        super().__init__(rows, torch.zeros(2, device=device), Scores((), (), 0, device, None))
        self._num_tokens = 0

    def begin_step(self, numbers: Sequence[int]) -> None:
        self._num_tokens = num_trained(self._rows, numbers)

    def loss(self, model: Any, pack: Pack) -> Tensor:
        is_best = torch.zeros_like(pack.targets, dtype=torch.bool)
        scored = log_probs(model.get_base_model(), pack, is_best)
        loss = -(pack.advantages * scored).sum() / self._num_tokens * int(pack.counts)
        if pack.counts:
            self.sums += torch.stack([loss.detach(), is_best.sum()])
        return loss

    def measures(self) -> dict[str, float]:
        """The loss, and the part of the trained tokens that a greedy choice would have made."""
        loss, num_best = self.sums.tolist()
        return {"loss": loss, "token_accuracy": num_best / self._num_tokens}

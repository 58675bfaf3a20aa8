"""The objective of DPO (Direct Preference Optimization): prefer one response of each pair to the other.

    margin = beta * ((log p(preferred) - log p_start(preferred)) - (log p(rejected) - log p_start(rejected)))
    loss   = mean of -log sigmoid(margin)     over the pairs of the step

Source: Rafailov et al., arXiv:2305.18290, equation 7. log p is the sum over the trained tokens of a side, and
p_start the model with which the job begins. The difference in the brackets, times beta, is the implicit
reward of a side.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.worker.log_probs import log_probs
from training.worker.objective import Objective, num_trained
from training.worker.packs import Pack, Row
from training.worker.scores import Scores
from training.worker.state import TrainingState

START = "start"
"""The name of the scores under the model with which the job begins."""


class Dpo(Objective):
    """DPO on rows whose advantage is 1 for a preferred side and -1 for a rejected side.

    The item of a row is its pair. All rows of a pair are in one pack.
    """

    keeps_items = True

    def __init__(
        self, rows: Sequence[Row], device: torch.device, beta: float, state: TrainingState | None
    ) -> None:
        num_tokens = num_trained(rows, range(len(rows)))
        scores = Scores((START,), (), num_tokens, device, state)
        super().__init__(rows, torch.zeros(3, device=device), scores)
        self._beta = beta
        self._num_pairs = 0

    def begin_step(self, numbers: Sequence[int]) -> None:
        self._num_pairs = len({self._rows[number].item for number in numbers})

    def score(self, model: Any, pack: Pack) -> None:
        """Score a pack under the model with which the job begins, without dropout."""
        if model.training:
            model.eval()
        with torch.no_grad():
            scored = log_probs(model.get_base_model(), pack)
        if pack.counts:
            self.scores.tensors[START][pack.places] = scored

    def loss(self, model: Any, pack: Pack) -> Tensor:
        scored = log_probs(model.get_base_model(), pack)
        changes = pack.advantages * (scored - self.scores.tensors[START][pack.places])
        # Not `index_add`, whose sums depend on the order in which the threads of a GPU come.
        margins = self._beta * torch.stack([(changes * (pack.items == p)).sum() for p in pack.items.unique()])
        loss = -F.logsigmoid(margins).sum() / self._num_pairs * int(pack.counts)
        if pack.counts:
            known = margins.detach()
            self.sums += torch.stack([loss.detach(), (known > 0).sum(), known.sum()])
        return loss

    def measures(self) -> dict[str, float]:
        """The loss, the part of the pairs with a larger reward of the preferred side, and the mean margin."""
        loss, num_right, margin = self.sums.tolist()
        return {
            "loss": loss,
            "reward_accuracy": num_right / self._num_pairs,
            "reward_margin": margin / self._num_pairs,
        }

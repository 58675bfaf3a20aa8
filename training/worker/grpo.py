"""The objective of GRPO, with the loss of TRL's GRPOTrainer on one pack.

The loss is that of DeepSeekMath (arXiv:2402.03300, equation 3), normalised over all trained tokens of all
groups as in DAPO (arXiv:2503.14476, equation 8). It is the mean over the tokens of

    -min(ratio * A, clip(ratio, 1 - epsilon, 1 + epsilon) * A) + beta * KL(policy || base model)

with ratio = policy / policy at the start of the job.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from training.worker.log_probs import log_probs
from training.worker.objective import Objective, num_trained
from training.worker.packs import Pack, Row
from training.worker.scores import Scores
from training.worker.state import TrainingState
from training.worker.step_sums import StepSums

OLD, REF = "old", "ref"
"""The names of the scores under the starting policy and under the base model."""

TrlLoss = Callable[[Tensor, dict[str, Tensor]], Tensor]
"""TRL's loss of one row of C completion tokens: from their log-probabilities (C,), and its other inputs."""


class Grpo(Objective):
    """GRPO on rows that have the advantages of their responses.

    The first step computes the scores `old` anyway, before it changes a weight. With a fresh adapter, whose B
    matrices are zero, `ref` is the same. Each pack needs a pass of its own if the adapter is not fresh, or if
    the step computes with dropout.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        device: torch.device,
        epsilon: float,
        is_fresh: bool,
        has_dropout: bool,
        state: TrainingState | None,
        trl_loss: TrlLoss,
    ) -> None:
        num_tokens = num_trained(rows, range(len(rows)))
        apart = (OLD, REF) if has_dropout else () if is_fresh else (REF,)
        at_hand = tuple(name for name in (OLD, REF) if name not in apart)
        scores = Scores(apart, at_hand, num_tokens, device, state)
        self._step_sums = StepSums(device)
        super().__init__(rows, self._step_sums.tensor, scores)
        self._num_tokens = num_tokens
        self._normalizer = torch.tensor(float(num_tokens), device=device)
        self._epsilon = epsilon
        self._is_fresh = is_fresh
        self._trl_loss = trl_loss

    def begin_step(self, numbers: Sequence[int]) -> None:
        """There is nothing to prepare: each step is over all rows."""

    def score(self, model: Any, pack: Pack) -> None:
        """Compute the scores of a pack in a pass of its own, without dropout."""
        if model.training:
            model.eval()
        base = model.get_base_model()
        with torch.no_grad():
            if OLD in self.scores.in_passes:
                self._keep((OLD, REF) if self._is_fresh else (OLD,), pack, log_probs(base, pack))
            if not self._is_fresh:
                with model.disable_adapter():
                    self._keep((REF,), pack, log_probs(base, pack))

    def loss(self, model: Any, pack: Pack) -> Tensor:
        scored = log_probs(model.get_base_model(), pack)
        now = scored.detach()
        if self.scores.is_first_step:
            self._keep(self.scores.in_step, pack, now)
        old, ref = (self.scores.tensors[name][pack.places] for name in (OLD, REF))
        mask = torch.full_like(pack.targets, int(pack.counts)).unsqueeze(0)
        loss = self._trl_loss(
            scored,
            {
                "prompt_ids": pack.targets[:0].unsqueeze(0),
                "prompt_mask": mask[:, :0],
                "completion_ids": pack.targets.unsqueeze(0),
                "completion_mask": mask,
                "advantages": pack.advantages.unsqueeze(0),
                "num_items_in_batch": self._normalizer,
                "old_per_token_logps": old.unsqueeze(0),
                "ref_per_token_logps": ref.unsqueeze(0),
            },
        )
        if pack.counts:
            self._step_sums.add(loss, pack, now, old, ref, self._epsilon, self._epsilon)
        return loss

    def measures(self) -> dict[str, float]:
        loss, kl, clip_ratio = self._step_sums.measures(self._num_tokens)
        return {"loss": loss, "kl": kl, "clip_ratio": clip_ratio}

    def _keep(self, names: Sequence[str], pack: Pack, scored: Tensor) -> None:
        if pack.counts:
            for name in names:
                self.scores.tensors[name][pack.places] = scored

"""The sums of a step of GRPO over the packs that are done so far, from which its measures are made."""

import torch
from torch import Tensor

from training.worker.packs import Pack


class StepSums:
    """The loss, the KL estimates and the number of clipped tokens, as one tensor of three sums."""

    def __init__(self, device: torch.device) -> None:
        self.tensor = torch.zeros(3, device=device)

    @property
    def loss(self) -> Tensor:
        return self.tensor[0]

    def add(
        self,
        loss: Tensor,
        pack: Pack,
        now: Tensor,
        old: Tensor,
        ref: Tensor,
        epsilon_low: float,
        epsilon_high: float,
    ) -> None:
        """Add a pack. `now`, `old` and `ref` (C,) are the log-probabilities of its completion tokens."""
        # Schulman's k3 estimator of KL(policy || base), as in DeepSeekMath arXiv:2402.03300, equation 4.
        log_ratio_to_base = ref - now
        kl = log_ratio_to_base.exp() - log_ratio_to_base - 1
        ratio = (now - old).exp()
        is_clipped = ((ratio > 1 + epsilon_high) & (pack.advantages > 0)) | (
            (ratio < 1 - epsilon_low) & (pack.advantages < 0)
        )
        self.tensor += torch.stack([loss.detach(), kl.sum(), is_clipped.sum()])

    def measures(self, num_tokens: int) -> tuple[float, float, float]:
        """Return the loss, the mean KL of a token and the fraction of clipped tokens."""
        loss, kl, num_clipped = self.tensor.tolist()
        return loss, kl / num_tokens, num_clipped / num_tokens

"""Checks that the replicas and the training workers that share one GPU fit on it, as Ray and vLLM count.

Ray places parts of GPUs on as few GPUs as it can. All parts together must therefore fit on one GPU. With
more, Ray decides who shares a GPU with whom. A part says nothing about memory: other settings limit what
vLLM and the training worker take.
"""

from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 1e-6


@dataclass(frozen=True)
class GpuShare:
    """The use of GPUs by one base model. A number of GPUs is 0 where no GPU is used.

    `serving_memory` and `training_memory` are parts of the memory of a GPU. The first is None if the settings
    leave it to vLLM.
    """

    base_model: str
    num_replicas: int
    gpus_per_replica: float
    serving_memory: float | None
    num_workers: int
    gpus_per_worker: float
    training_memory: float
    takes_turns: bool
    """True if replicas sleep while a training runs, so that the two never need memory at the same time."""

    @property
    def serves_on_part(self) -> bool:
        return 0 < self.gpus_per_replica < 1

    @property
    def trains_on_part(self) -> bool:
        return 0 < self.gpus_per_worker < 1

    @property
    def parts(self) -> dict[str, float]:
        """The parts of one GPU that Ray reserves, by the setting that asks for them."""
        parts = {}
        if self.serves_on_part:
            parts["gpus_per_replica"] = self.num_replicas * self.gpus_per_replica
        if self.trains_on_part:
            parts["gpus_per_worker"] = self.num_workers * self.gpus_per_worker
        return parts

    @property
    def memory(self) -> float:
        """The part of one GPU's memory that this base model needs on a GPU that is shared."""
        serving = self.num_replicas * (self.serving_memory or 1) if self.serves_on_part else 0
        training = self.num_workers * self.training_memory if self.trains_on_part else 0
        return max(serving, training) if self.takes_turns else serving + training


def check_shares(shares: Sequence[GpuShare]) -> None:
    """Raises: ValueError, which names what does not fit."""
    for share in shares:
        _check_turns(share)
    sharing = [share for share in shares if share.parts]
    _check_parts(sharing)
    _check_memory(sharing)


def _check_turns(share: GpuShare) -> None:
    if not share.takes_turns or share.gpus_per_replica == share.gpus_per_worker == 0:
        return
    if not (share.serves_on_part and share.trains_on_part):
        raise ValueError(
            f"models: with share_gpu, gpus_per_replica and gpus_per_worker of {share.base_model} must be "
            f"below 1; they are {share.gpus_per_replica:g} and {share.gpus_per_worker:g}"
        )


def _check_parts(shares: Sequence[GpuShare]) -> None:
    total = sum(sum(share.parts.values()) for share in shares)
    if total > 1 + TOLERANCE:
        raise ValueError(
            f"models: {_listed(shares)} add up to {total:g} GPUs; parts of GPUs share one GPU, so that their "
            "sum may be 1"
        )


def _listed(shares: Sequence[GpuShare]) -> str:
    return ", ".join(
        f"{name} of {share.base_model} ({part:g})" for share in shares for name, part in share.parts.items()
    )


def _check_memory(shares: Sequence[GpuShare]) -> None:
    for share in shares:
        if share.serves_on_part and share.serving_memory is None:
            raise ValueError(
                f"models: serving.engine.gpu_memory_utilization of {share.base_model} must be set, because "
                "vLLM's default is for a GPU of its own"
            )
    total = sum(share.memory for share in shares)
    if total > 1 + TOLERANCE:
        parts = ", ".join(f"{share.base_model} ({share.memory:g})" for share in shares)
        raise ValueError(
            f"models: {parts} need {total:g} of the memory of the GPU that they share; lower "
            "gpu_memory_utilization of serving.engine or of training"
        )

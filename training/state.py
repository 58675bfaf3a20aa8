"""What a job needs to go on from its last optimizer steps in another process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class TrainingState:
    """After `step` optimizer steps.

    `adapter`: by PEFT's names; `optimizer`: by parameter number and name, as in its `state_dict`; `old` and
    `ref` (N,): log-probabilities of all completion tokens under the starting policy and the base model;
    `random`: torch's generators by device. All on the CPU.
    """

    step: int
    adapter: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    old: Tensor
    ref: Tensor
    random: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """As safetensors: what comes back from storage is never executed."""
        tensors = {"old": self.old, "ref": self.ref}
        for kind in ("adapter", "optimizer", "random"):
            tensors |= {f"{kind}/{name}": tensor for name, tensor in getattr(self, kind).items()}
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"step": str(self.step)})

    @classmethod
    def load(cls, path: Path) -> "TrainingState":
        parts: dict[str, dict[str, Tensor]] = {"adapter": {}, "optimizer": {}, "random": {}, "": {}}
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                kind, _, name = key.rpartition("/") if key in ("old", "ref") else key.partition("/")
                parts[kind][name] = file.get_tensor(key)
            step = int(file.metadata()["step"])
        return cls(
            step, parts["adapter"], parts["optimizer"], parts[""]["old"], parts[""]["ref"], parts["random"]
        )


@dataclass(frozen=True)
class Moments:
    """An optimizer's, as in its `state_dict`: by parameter number and name. Of the job that is named."""

    job: str
    tensors: dict[str, Tensor]

    def copy(self) -> "Moments":
        """For an optimizer, which goes on in the very tensors that it is given."""
        return Moments(self.job, {name: tensor.clone() for name, tensor in self.tensors.items()})

    def save(self, path: Path) -> None:
        """As safetensors: what comes back from storage is never executed."""
        save_file({k: v.contiguous() for k, v in self.tensors.items()}, path, metadata={"job": self.job})

    @classmethod
    def load(cls, path: Path) -> "Moments":
        with safe_open(path, framework="pt") as file:
            return cls(file.metadata()["job"], {key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118


class States(Protocol):
    """Where the state of one job is kept while it runs."""

    def load(self) -> TrainingState | None:
        """The last one that was kept, if any."""

    def is_due(self) -> bool:
        """Whether it is time to keep one. Only the first worker's answer counts."""

    def keep(self, state: TrainingState) -> None:
        """Returns at once; the state is written beside the next steps."""


def random_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)

"""The state from which another process can continue a job after its last optimizer steps."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class PartialStep:
    """The part that one worker has done of a step that is not made yet. All tensors are on the CPU.

    `num_done`: the number of passes over its packs so far, with those that scored them before the first step;
    `max_tokens_per_pack`: the bound with which the packs were made; `gradients`: by parameter, summed over
    those packs; `sums` (3,): of loss, KL and clipped tokens; `seconds`: the time spent.
    """

    num_done: int
    max_tokens_per_pack: int
    gradients: dict[str, Tensor]
    sums: Tensor
    seconds: float


@dataclass(frozen=True)
class TrainingState:
    """The state of a job after `step` optimizer steps, or in the middle of the next one if `partial` is set.

    `adapter`: weights by PEFT's names; `optimizer`: by parameter number and name, as in its `state_dict`;
    `old` and `ref` (N,): log-probabilities of all completion tokens under the starting policy and the base
    model; `random`: the states of torch's generators by device. All tensors are on the CPU. A state in the
    middle of a step is that of one worker, and only that worker can use it.
    """

    step: int
    adapter: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    old: Tensor
    ref: Tensor
    random: dict[str, Tensor]
    partial: PartialStep | None = None

    def save(self, path: Path) -> None:
        """Write the state as safetensors, because such a file is never executed when it is read."""
        tensors = {"old": self.old, "ref": self.ref}
        metadata = {"step": str(self.step)}
        for kind in ("adapter", "optimizer", "random"):
            tensors |= {f"{kind}/{name}": tensor for name, tensor in getattr(self, kind).items()}
        if (partial := self.partial) is not None:
            tensors |= {f"gradient/{name}": tensor for name, tensor in partial.gradients.items()}
            tensors["sums"] = partial.sums
            numbers = partial.num_done, partial.max_tokens_per_pack, partial.seconds
            metadata["partial"] = json.dumps(numbers)
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> "TrainingState":
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in ("adapter", "optimizer", "random")}
        parts |= {"gradient": {}, "": {}}
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                kind, _, name = key.partition("/") if "/" in key else ("", "", key)
                parts[kind][name] = file.get_tensor(key)
            metadata = file.metadata()
        alone = parts[""]
        partial = None
        if "partial" in metadata:
            num_done, max_tokens, seconds = json.loads(metadata["partial"])
            partial = PartialStep(num_done, max_tokens, parts["gradient"], alone["sums"], seconds)
        return cls(
            step=int(metadata["step"]),
            adapter=parts["adapter"],
            optimizer=parts["optimizer"],
            old=alone["old"],
            ref=alone["ref"],
            random=parts["random"],
            partial=partial,
        )


@dataclass(frozen=True)
class OptimizerState:
    """The optimizer state after `job`: tensors by parameter number and name, as in its `state_dict`."""

    job: str
    tensors: dict[str, Tensor]

    def copy(self) -> "OptimizerState":
        """A copy for an optimizer, which changes the tensors that it is given."""
        return OptimizerState(self.job, {name: tensor.clone() for name, tensor in self.tensors.items()})

    def save(self, path: Path) -> None:
        """Write the state as safetensors, because such a file is never executed when it is read."""
        save_file({k: v.contiguous() for k, v in self.tensors.items()}, path, metadata={"job": self.job})

    @classmethod
    def load(cls, path: Path) -> "OptimizerState":
        with safe_open(path, framework="pt") as file:
            return cls(file.metadata()["job"], {key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118


class States(Protocol):
    """Stores the state of one job while it runs."""

    def load(self) -> TrainingState | None:
        """The last state that was stored, or None."""

    def is_due(self) -> bool:
        """Return True if it is time to store a state. Only the first worker is asked."""

    def keep(self, state: TrainingState) -> None:
        """Store the state. This returns at once; the state is written beside the next steps."""


def by_parameter(optimizer_state: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The same tensors in the form of the `state` in an optimizer's `state_dict`."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in optimizer_state.items():
        number, _, name = key.partition("/")
        states.setdefault(int(number), {})[name] = tensor
    return states


def random_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)

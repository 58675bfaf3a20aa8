"""The state from which another process can continue a job after its last optimizer steps."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from registry.records import Method

KINDS = ("adapter", "optimizer", "scores", "random")
"""The fields of a state that are tensors by name."""


@dataclass(frozen=True)
class PartialStep:
    """The part that one worker has done of a step that is not made yet. All tensors are on the CPU.

    `is_scored`: the passes that only score are done, if the step has any; `num_done`: the number of packs so
    far that were trained on, or that were scored while it is not scored; `max_tokens_per_pack`: the bound
    with which the packs were made; `gradients`: by parameter, summed over those packs; `sums` (M,): those of
    the objective, of which the first is the loss; `seconds`: the time spent.
    """

    is_scored: bool
    num_done: int
    max_tokens_per_pack: int
    gradients: dict[str, Tensor]
    sums: Tensor
    seconds: float


@dataclass(frozen=True)
class TrainingState:
    """The state of a job after `step` optimizer steps, or in the middle of the next one if `partial` is set.

    `adapter`: weights by PEFT's names; `optimizer`: by parameter number and name, as in its `state_dict`;
    `scores` (N,): by name, log-probabilities of all trained tokens (`worker.scores`); `random`: the states of
    torch's generators by device. All tensors are on the CPU. A state in the middle of a step is that of one
    worker, and only that worker can use it.
    """

    step: int
    adapter: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    scores: dict[str, Tensor]
    random: dict[str, Tensor]
    partial: PartialStep | None = None

    @property
    def is_scored(self) -> bool:
        """True if no passes are left that only score: the first step is made, or is past them."""
        return self.step > 0 or (self.partial is not None and self.partial.is_scored)

    def save(self, path: Path) -> None:
        """Write the state as safetensors, because such a file is never executed when it is read."""
        tensors: dict[str, Tensor] = {}
        metadata = {"step": str(self.step)}
        for kind in KINDS:
            tensors |= {f"{kind}/{name}": tensor for name, tensor in getattr(self, kind).items()}
        if (partial := self.partial) is not None:
            tensors |= {f"gradient/{name}": tensor for name, tensor in partial.gradients.items()}
            tensors["sums"] = partial.sums
            numbers = partial.is_scored, partial.num_done, partial.max_tokens_per_pack, partial.seconds
            metadata["partial"] = json.dumps(numbers)
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> "TrainingState":
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in (*KINDS, "gradient", "")}
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                kind, _, name = key.partition("/") if "/" in key else ("", "", key)
                parts[kind][name] = file.get_tensor(key)
            metadata = file.metadata()
        sums = parts[""].pop("sums", None)
        # Earlier releases wrote the scores of GRPO, which was their only method, by their names alone.
        parts["scores"] |= parts[""]
        partial = None
        if "partial" in metadata:
            is_scored, num_done, max_tokens, seconds = json.loads(metadata["partial"])
            assert sums is not None
            partial = PartialStep(is_scored, num_done, max_tokens, parts["gradient"], sums, seconds)
        return cls(
            step=int(metadata["step"]),
            adapter=parts["adapter"],
            optimizer=parts["optimizer"],
            scores=parts["scores"],
            random=parts["random"],
            partial=partial,
        )


@dataclass(frozen=True)
class OptimizerState:
    """The optimizer state after `job`: tensors by parameter number and name, as in its `state_dict`.

    `method` is that of the job. Gradients of another method have another size, which Adam would have to
    unlearn, so only a job of the same method continues with the state.
    """

    job: str
    tensors: dict[str, Tensor]
    method: Method = Method.GRPO

    def copy(self) -> "OptimizerState":
        """A copy for an optimizer, which changes the tensors that it is given."""
        return replace(self, tensors={name: tensor.clone() for name, tensor in self.tensors.items()})

    def save(self, path: Path) -> None:
        """Write the state as safetensors, because such a file is never executed when it is read."""
        metadata = {"job": self.job, "method": self.method.value}
        save_file({k: v.contiguous() for k, v in self.tensors.items()}, path, metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> "OptimizerState":
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            # Earlier releases, which wrote no method, had GRPO alone.
            method = Method(file.metadata().get("method", Method.GRPO))
            return cls(file.metadata()["job"], tensors, method)


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

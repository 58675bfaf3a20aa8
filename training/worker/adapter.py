"""A job's adapter: its configuration, the loading of its parent's weights, and its files."""

from copy import copy
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from training.types import Assignment

WEIGHTS_FILE = "adapter_model.safetensors"


def lora_of(assignment: Assignment) -> LoraConfig:
    return LoraConfig(
        r=assignment.rank,
        # A whole number is written as an integer, because vLLM declares lora_alpha as one.
        lora_alpha=int(assignment.alpha) if assignment.alpha.is_integer() else assignment.alpha,
        lora_dropout=assignment.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def load_weights(model: Any, weights: dict[str, Tensor]) -> None:
    """Load weights into a fresh adapter.

    TRL could be given a loaded PeftModel, but would make its adapter the reference of the KL. Our reference
    is the base model.
    """
    result: Any = set_peft_model_state_dict(model, weights)
    wrong = [name for name in result.missing_keys if "lora_" in name] + list(result.unexpected_keys)
    if wrong:
        raise ValueError(f"the parent adapter does not fit the model: {wrong[:3]}")


def save_adapter(model: Any, base_model: str, directory: Path) -> None:
    """Write the two files that PEFT and vLLM load.

    PEFT's own `save_pretrained` of the model is not used: it adds a model card, may look for the base model's
    configuration on the network, and would write a path of this machine.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {name: tensor.contiguous().cpu() for name, tensor in weights.items()},
        directory / WEIGHTS_FILE,
        metadata={"format": "pt"},
    )
    # A copy, because the model may be trained further.
    config = copy(model.peft_config["default"])
    config.base_model_name_or_path = base_model
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(str(directory))

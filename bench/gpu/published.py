"""Publishes private models with random adapters straight to the bucket, as if each had been trained once.

All models name the same files, which are in the bucket once. Every replica downloads them for each model.
"""

from pathlib import Path
from typing import Any

from bench.control.accounts import Accounts
from registry.records import ModelRecord
from registry.revisions import Revisions
from registry.store import ObjectStore
from serve_app.settings import BaseModelSettings

REVISION = 1
SPREAD = 0.02


def publish_models(
    store: ObjectStore, base: BaseModelSettings, adapter: Path, user: str, number: int
) -> list[str]:
    """Make `number` models of a user that has none; returns their ids.

    The user must not have sent a request yet: the Catalog reads a list of models only once.
    """
    accounts = Accounts(store, base)
    models = tuple(accounts.model(index, REVISION, revision=REVISION) for index in range(number))
    _publish(store, adapter, models)
    accounts.save(user, models)
    return [model.id for model in models]


def _publish(store: ObjectStore, adapter: Path, models: tuple[ModelRecord, ...]) -> None:
    first, *others = models
    manifest = Revisions(store).publish(
        first.uid,
        adapter,
        revision=REVISION,
        parent_revision=0,
        job=None,
        base_model=first.base_model,
        metrics={},
    )
    for model in others:
        key = f"models/{model.uid}/revisions/{REVISION:06d}/manifest.json"
        store.create(key, manifest.model_dump_json().encode())


def write_adapter(directory: Path, config: Any, base: BaseModelSettings) -> None:
    """Write an adapter with small random numbers, in the form that the trainer writes.

    `config` is transformers' LlamaConfig of the base model, whose weights are not needed.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    from training.worker.adapter import save_adapter

    lora = LoraConfig(
        r=base.rank, lora_alpha=2 * base.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.device("meta"):
        model: Any = get_peft_model(LlamaForCausalLM(config), lora)
    random = torch.Generator().manual_seed(0)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                values = torch.randn(parameter.shape, generator=random) * SPREAD
                setattr(module, name, torch.nn.Parameter(values))
    save_adapter(model, base.id, directory)

"""The resident base model of a training worker: loaded once, lent to one job after the other."""

import copy
import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from training.conversation import Exchange
from training.settings import TrainingSettings
from training.worker.attention import IMPLEMENTATION
from training.worker.host_weights import HostWeights
from training.worker.log_probs import log_probs
from training.worker.packs import Row, packs
from training.worker.workers import Workers

Snapshot = list[tuple[Any, dict[str, Any]]]


class UnfitModel(Exception):
    """The base model's architecture cannot be trained here. The message tells the operator why."""


class ResidentModel:
    """The tokenizer and the frozen base weights, which stay in memory. Each job puts its adapter on them.

    `max_tokens_per_pack` and `checkpoints` begin with the values of the settings and change when memory runs
    out.

    Args:
        weights: a Hugging Face repository id or a directory.
        settings: dtype, device and threads; the whole process gets `threads_per_worker` torch threads.
        max_context_tokens: most tokens of a prompt and a completion together.
        workers: the workers that share the weights, if the settings say that these are sharded.

    Raises:
        UnfitModel.
    """

    def __init__(
        self,
        weights: str,
        settings: TrainingSettings,
        max_context_tokens: int,
        workers: Workers | None = None,
    ) -> None:
        # Ray gives a worker of one CPU only one OpenMP thread, on any machine.
        torch.set_num_threads(settings.threads_per_worker or len(os.sched_getaffinity(0)))
        transformers_logging.disable_progress_bar()
        self.settings = settings
        self.max_context_tokens = max_context_tokens
        self.max_tokens_per_pack = settings.max_tokens_per_pack
        self.checkpoints = settings.gradient_checkpointing
        self.workers = workers or Workers()
        self.is_sharded = settings.shard_base_model and self.workers.size > 1
        self.device = torch.device("cuda" if settings.use_gpu else "cpu")
        self.tokenizer: Any = AutoTokenizer.from_pretrained(weights)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model: Any = AutoModelForCausalLM.from_pretrained(
            weights, dtype=getattr(torch, settings.dtype), attn_implementation=IMPLEMENTATION
        )
        self.model: PreTrainedModel = model.eval().requires_grad_(False)
        if self.is_sharded:
            self._shard()
        # Between turns a shared GPU belongs to the replicas.
        waits_in_host_memory = settings.share_gpu and settings.use_gpu
        self._host_weights = HostWeights(self.model, self.device) if waits_in_host_memory else None
        home = torch.device("cpu") if waits_in_host_memory else self.device
        self.model.to(home)
        self._check_architecture(home)
        self._pristine = _snapshot(self.model)
        # No object that exists now will be garbage. Without this, every collection would look at all of them.
        gc.collect()
        gc.freeze()

    def _shard(self) -> None:
        """Shard the decoder's layers: each worker keeps a part of a layer, and gathers the whole to use it.

        Embeddings and head stay whole: `worker.log_probs` uses the head outside of the model's forward.
        """
        mesh = init_device_mesh(self.device.type, (self.workers.size,))
        for layer in self.model.get_decoder().layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)

    def _check_architecture(self, home: torch.device) -> None:
        """Check that a pack gets the scores that the model itself gives.

        They differ with a sliding window, or with a function between head and logits. Raises: UnfitModel.
        """
        kinds = set(getattr(self.model.config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"} or getattr(self.model.config, "sliding_window", None):
            raise UnfitModel(f"attention of the kinds {sorted(kinds)} cannot be trained, only full_attention")
        ids = list(range(1, 9))
        rows = [Row(Exchange(ids[:4], ids[4:6]), 0.0), Row(Exchange(ids[:4], ids[6:]), 0.0)]
        (pack,) = packs(rows, [0, 1], 16, home)
        with torch.no_grad():
            packed = log_probs(self.model, pack)
            whole = torch.tensor([ids[:4] + ids[4:6], ids[:4] + ids[6:]], device=home)
            logits = self.model(input_ids=whole, use_cache=False).logits[:, 3:-1].float()
            alone = logits.log_softmax(-1).gather(2, whole[:, 4:].unsqueeze(2)).flatten()
        if not torch.allclose(packed[pack.places.argsort()], alone, atol=0.2, rtol=0.02):
            raise UnfitModel(f"{type(self.model).__name__} does more to its logits than its head says")

    @contextmanager
    def lend(self) -> Iterator[PreTrainedModel]:
        """The base model, for one job to put its adapter on. After the block it is as it was before.

        PEFT replaces layers, TRL replaces the forward method, checkpointing adds hooks, and a job may stop in
        the middle of any of these. So nothing is undone step by step: each module gets back the attributes
        that it had when it was loaded. The weights are frozen and shared. A job never has a copy of its own.
        """
        with self._host_weights.on_device() if self._host_weights is not None else nullcontext():
            try:
                yield self.model
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)  # their variables hold memory of the device
                raise
            finally:
                for module in self.model.modules():
                    if isinstance(module, FSDPModule):
                        module.reshard()
                _restore(self._pristine)
                # A trainer has reference cycles. This frees its optimizer and its adapter at once.
                gc.collect()


def _snapshot(model: PreTrainedModel) -> Snapshot:
    owners = [*model.modules(), model.config, model.generation_config]
    return [(owner, _copied(owner.__dict__)) for owner in owners]


def _restore(snapshot: Snapshot) -> None:
    for owner, attributes in snapshot:
        owner.__dict__.clear()
        owner.__dict__.update(_copied(attributes))


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """A copy that shares weights and submodules, but not the containers (such as dicts) that hold them."""
    return {
        name: copy.copy(value) if isinstance(value, dict | list | set) else value
        for name, value in attributes.items()
    }

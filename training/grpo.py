"""One training job: GRPO on the responses and rewards of a request, on a LoRA adapter.

    groups -> rows (tokens, advantage) -> micro-batches -> SuppliedResponsesTrainer -> adapter files

Loss, as DeepSeekMath (arXiv:2402.03300, equation 3) has it, normalised over all completion tokens of all
groups as in DAPO (arXiv:2503.14476, equation 8): the mean over tokens of

    -min(ratio * A, clip(ratio, 1 - epsilon, 1 + epsilon) * A) + beta * KL(policy || base model)

with ratio = policy / policy at the start of this job. Gradients are not clipped: the contract has no such
thing.
"""

import hashlib
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from trl.trainer.grpo_config import GRPOConfig

from registry.records import JobRequest
from training.advantages import advantages
from training.batches import Row, micro_batches
from training.conversation import tokenise
from training.policy import Policy
from training.trainer import StepMeasures, SuppliedResponsesTrainer
from training.types import Assignment, Cancelled, StepProgress, TrainingOutcome

WEIGHTS_FILE = "adapter_model.safetensors"


def train(
    policy: Policy,
    assignment: Assignment,
    parent_adapter: Path | None,
    output: Path,
    on_step: Callable[[StepProgress], None],
    is_cancelled: Callable[[], bool],
) -> TrainingOutcome:
    """Run `assignment` on the resident model and write the new adapter into `output`.

    Args:
        parent_adapter: a PEFT directory to continue from; None: a fresh adapter, seeded by the job's id.
        output: gets `adapter_config.json` and `adapter_model.safetensors`, at the very end.
        on_step: called after each optimizer step.
        is_cancelled: asked before each optimizer step.

    Raises:
        Cancelled: `is_cancelled` said so.
        InvalidRequest: a conversation cannot be rendered, or is too long.
        FloatingPointError: loss or gradient is not finite.
    """
    started = time.perf_counter()
    rows = _rows(policy, assignment.request)
    progress: list[StepProgress] = []

    def record(measures: StepMeasures) -> None:
        progress.append(_progress(measures, assignment.request))
        on_step(progress[-1])

    def stop_if_cancelled() -> None:
        if is_cancelled():
            raise Cancelled(assignment.job_id)

    with policy.lend(), tempfile.TemporaryDirectory(prefix="tiger-train-") as scratch:
        _fit(policy, assignment, parent_adapter, output, rows, Path(scratch), record, stop_if_cancelled)
    last = progress[-1].model_dump(exclude={"step", "steps", "seconds"})
    num_tokens = sum(len(row.exchange.completion_ids) for row in rows)
    return TrainingOutcome(
        metrics=last,
        trained_tokens=num_tokens * len(progress),
        duration_s=time.perf_counter() - started,
    )


def _rows(policy: Policy, request: JobRequest) -> list[Row]:
    rows = []
    for group in request.groups:
        scores = advantages([response.reward for response in group.responses])
        for response, advantage in zip(group.responses, scores, strict=True):
            exchange = tokenise(policy.tokenizer, group.messages, response.content, policy.max_context_tokens)
            rows.append(Row(exchange, advantage))
    return rows


def _fit(
    policy: Policy,
    assignment: Assignment,
    parent_adapter: Path | None,
    output: Path,
    rows: list[Row],
    scratch: Path,
    on_step: Callable[[StepMeasures], None],
    before_step: Callable[[], None],
) -> None:
    """A function of its own so that the trainer is garbage when the model is given back."""
    size = min(policy.settings.micro_batch_size, len(rows))
    batches = micro_batches(rows, size, policy.tokenizer.pad_token_id, policy.device)
    args = _arguments(policy, assignment, size, len(batches), scratch)
    lora = LoraConfig(
        r=assignment.rank,
        # Whole numbers are written as such: vLLM declares lora_alpha an integer.
        lora_alpha=int(assignment.alpha) if assignment.alpha.is_integer() else assignment.alpha,
        lora_dropout=assignment.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    weights = None if parent_adapter is None else load_file(parent_adapter / WEIGHTS_FILE)
    trainer = SuppliedResponsesTrainer(policy, args, lora, batches, weights, on_step, before_step)
    trainer.train()
    _save_adapter(trainer.model, assignment.base_model, output)


def _arguments(
    policy: Policy, assignment: Assignment, size: int, num_batches: int, scratch: Path
) -> GRPOConfig:
    hyperparameters = assignment.request.hyperparameters
    return GRPOConfig(
        output_dir=str(scratch),
        use_cpu=not policy.settings.use_gpu,
        bf16=policy.settings.dtype == "bfloat16",
        seed=_seed(assignment.job_id),
        # Exactly `learning_steps` optimizer steps, each over all micro-batches.
        max_steps=hyperparameters.learning_steps,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=num_batches,
        steps_per_generation=num_batches,
        num_generations=size * num_batches,
        loss_type="dapo",
        beta=hyperparameters.beta,
        epsilon=hyperparameters.epsilon,
        # True multiplies the KL term by the ratio: not the KL of the contract.
        use_bias_correction_kl=False,
        learning_rate=hyperparameters.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        # Measures the norm and clips nothing.
        max_grad_norm=math.inf,
        gradient_checkpointing=policy.settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _seed(job_id: str) -> int:
    """The same for each attempt at a job, so that an attempt after a crash makes the same adapter."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4])


def _progress(measures: StepMeasures, request: JobRequest) -> StepProgress:
    if not math.isfinite(measures.loss) or not math.isfinite(measures.grad_norm):
        raise FloatingPointError(
            f"step {measures.step}: loss {measures.loss}, gradient norm {measures.grad_norm}"
        )
    rewards = [response.reward for group in request.groups for response in group.responses]
    return StepProgress(
        step=measures.step,
        steps=request.hyperparameters.learning_steps,
        loss=measures.loss,
        kl=measures.kl,
        clip_ratio=measures.clip_ratio,
        grad_norm=measures.grad_norm,
        reward_mean=statistics.fmean(rewards),
        reward_std=statistics.stdev(rewards),
        learning_rate=measures.learning_rate,
        seconds=measures.seconds,
    )


def _save_adapter(model: Any, base_model: str, directory: Path) -> None:
    """Write the two files that PEFT and vLLM load.

    By hand, since PEFT's `save_pretrained` adds a model card, may look for the base model's configuration
    on the network, and would write the path of this machine.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {name: tensor.contiguous().cpu() for name, tensor in weights.items()},
        directory / WEIGHTS_FILE,
        metadata={"format": "pt"},
    )
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_model
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(str(directory))

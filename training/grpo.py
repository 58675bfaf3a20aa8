"""One training job: GRPO on the responses and rewards of a request, on a LoRA adapter.

    groups -> rows (tokens, advantage) -> packs -> SuppliedResponsesTrainer -> adapter files

Loss, as DeepSeekMath (arXiv:2402.03300, equation 3) has it, normalised over all completion tokens of all
groups as in DAPO (arXiv:2503.14476, equation 8): the mean over tokens of

    -min(ratio * A, clip(ratio, 1 - epsilon, 1 + epsilon) * A) + beta * KL(policy || base model)

with ratio = policy / policy at the start of this job. Gradients are not clipped: the contract has no such
thing.

A job goes on with the optimizer of the job before it. Adam's first updates are the sign of the gradient,
noise included; trainings of a few steps each that all began anew would be made of nothing else.
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
from torch import Tensor
from trl.trainer.grpo_config import GRPOConfig

from registry.records import JobRequest
from training.advantages import advantages
from training.conversation import tokenise
from training.packs import Row
from training.policy import Policy
from training.state import Moments, States, TrainingState
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
    states: States | None = None,
    parent_moments: Moments | None = None,
) -> tuple[TrainingOutcome, Moments]:
    """Run `assignment` on the resident model and write the new adapter into `output`.

    All workers of a run call this together; each gives the same result, and the callbacks are the first's.
    The moments are those of this job's optimizer, for the job that goes on from it.

    Args:
        parent_adapter: a PEFT directory to continue from; None: a fresh adapter, seeded by the job's id.
        output: gets `adapter_config.json` and `adapter_model.safetensors`, at the very end.
        on_step: called after each optimizer step.
        is_cancelled: asked before each optimizer step.
        states: where to go on from, and where to keep how far it came; None: from the start.
        parent_moments: of the optimizer that made `parent_adapter`; None: a new optimizer.

    Raises:
        Cancelled: `is_cancelled` said so.
        InvalidRequest: a conversation cannot be rendered, or is too long.
        TrainingFailed: a response is too long for the memory there is.
        FloatingPointError: loss or gradient is not finite.
    """
    started = time.perf_counter()
    workers = policy.workers
    rows, weights, state = workers.all_of(
        lambda: (
            rows_of(policy, assignment.request),
            None if parent_adapter is None else load_file(parent_adapter / WEIGHTS_FILE),
            None if states is None else states.load(),
        )
    )
    progress: list[StepProgress] = []

    def record(measures: StepMeasures, make_state: Callable[[int], TrainingState]) -> None:
        step = _progress(measures, assignment.request)
        progress.append(step)

        def tell() -> None:
            on_step(step)
            if states is not None and step.step < step.steps and states.is_due():
                states.keep(make_state(step.step))

        workers.from_first(tell)

    def stop_if_cancelled() -> None:
        if workers.from_first(is_cancelled):
            raise Cancelled(assignment.job_id)

    if policy.is_sharded:
        # An attempt that ran out of memory took its process with it, and what that knew.
        policy.max_tokens_per_pack = max(1, policy.settings.max_tokens_per_pack >> (assignment.attempt - 1))
    with policy.lend():
        moments = parent_moments.tensors if parent_moments is not None else None
        trained = _fit(policy, assignment, rows, weights, moments, state, output, record, stop_if_cancelled)
    num_tokens = sum(len(row.exchange.completion_ids) for row in rows)
    outcome = TrainingOutcome(
        metrics=progress[-1].model_dump(exclude={"step", "steps", "seconds"}),
        trained_tokens=num_tokens * assignment.request.hyperparameters.learning_steps,
        duration_s=time.perf_counter() - started,
    )
    return outcome, Moments(assignment.job_id, trained)


def rows_of(policy: Policy, request: JobRequest) -> list[Row]:
    rows = []
    for group in request.groups:
        scores = advantages([response.reward for response in group.responses])
        for response, advantage in zip(group.responses, scores, strict=True):
            exchange = tokenise(policy.tokenizer, group.messages, response, policy.max_context_tokens)
            rows.append(Row(exchange, advantage))
    return rows


def _fit(
    policy: Policy,
    assignment: Assignment,
    rows: list[Row],
    weights: dict[str, Tensor] | None,
    moments: dict[str, Tensor] | None,
    state: TrainingState | None,
    output: Path,
    on_step: Callable[[StepMeasures, Callable[[int], TrainingState]], None],
    before_step: Callable[[], None],
) -> dict[str, Tensor]:
    """The optimizer's moments.

    A function of its own so that the trainer is garbage when the model is given back.
    """
    with tempfile.TemporaryDirectory(prefix="tiger-train-") as scratch:
        args = _arguments(policy, assignment, state, Path(scratch))
        trainer = SuppliedResponsesTrainer(
            policy, args, _lora(assignment), rows, weights, moments, state, on_step, before_step
        )
        trainer.train()
    if policy.workers.is_first:
        _save_adapter(trainer.model, assignment.base_model, output)
    return trainer.moments()


def _lora(assignment: Assignment) -> LoraConfig:
    return LoraConfig(
        r=assignment.rank,
        # Whole numbers are written as such: vLLM declares lora_alpha an integer.
        lora_alpha=int(assignment.alpha) if assignment.alpha.is_integer() else assignment.alpha,
        lora_dropout=assignment.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _arguments(
    policy: Policy, assignment: Assignment, state: TrainingState | None, scratch: Path
) -> GRPOConfig:
    hyperparameters = assignment.request.hyperparameters
    return GRPOConfig(
        output_dir=str(scratch),
        use_cpu=not policy.settings.use_gpu,
        bf16=policy.settings.dtype == "bfloat16",
        seed=_seed(assignment.job_id),
        # Exactly `learning_steps` optimizer steps, each over all rows of the job.
        max_steps=hyperparameters.learning_steps - (state.step if state is not None else 0),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        num_generations=2,
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
        # `training.memory` turns it on.
        gradient_checkpointing=False,
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

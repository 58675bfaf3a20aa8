"""Time of one optimizer step on a GPU, against a hand-written loop on the same tokens, in one run.

    python -m bench.gpu.training --layers 32 --output bench/results/gpu-training.json

The model is a Llama-3.1-8B in shape with random weights, and its tokenizer makes a token of every character,
so nothing is downloaded. Both sides have the same micro-batches, adapter, dtypes and checkpointing; a row's
time is the median of the steps after the first. The hand-written loop is PyTorch, PEFT and AdamW alone.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from registry.records import Group, Hyperparameters, JobRequest, Message, RewardedResponse
from training.batches import micro_batches
from training.grpo import _rows, train
from training.policy import Policy
from training.settings import TrainingSettings
from training.types import Assignment, StepProgress

STEPS = 5
RANK = 16
PROMPT_TOKENS = 64
SHAPES = [(2, 64), (8, 64), (8, 256), (8, 1024), (16, 256), (64, 256)]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}~{% endif %}{% endfor %}"


def write_model(directory: Path, num_layers: int, device: str) -> None:
    """A random Llama-3.1-8B of `num_layers` layers, bf16, with a tokenizer of one token a character."""
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=num_layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rope_theta=500000.0,
        tie_word_embeddings=False,
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(directory)
    vocabulary = {chr(33 + i): i for i in range(93)} | {"~": 93, "[UNK]": 94}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="~", unk_token="[UNK]")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(directory)


def request(num_responses: int, num_tokens: int) -> JobRequest:
    """Groups of up to 8 responses of `num_tokens` tokens, the end of turn among them."""
    responses = [
        RewardedResponse(content=chr(33 + i % 90) * (num_tokens - 1), reward=float(i % 3))
        for i in range(num_responses)
    ]
    prompt = (Message(role="user", content="?" * PROMPT_TOKENS),)
    groups = [
        Group(messages=prompt, responses=tuple(responses[i : i + 8])) for i in range(0, num_responses, 8)
    ]
    values = Hyperparameters(learning_rate=1e-5, learning_steps=STEPS, beta=0.04, epsilon=0.2)
    return JobRequest(groups=tuple(groups), hyperparameters=values)


def ours(policy: Policy, job: JobRequest, scratch: Path) -> dict[str, Any]:
    assignment = Assignment(
        job_id="bench",
        attempt=1,
        user="bench",
        uid="bench",
        base_model="bench",
        parent_revision=0,
        has_parent_adapter=False,
        revision=1,
        rank=RANK,
        alpha=2.0 * RANK,
        dropout=0.0,
        request=job,
    )
    steps: list[StepProgress] = []
    torch.cuda.reset_peak_memory_stats()
    outcome = train(policy, assignment, None, scratch / "adapter", steps.append, lambda: False)
    return {
        "step_s": statistics.median(step.seconds for step in steps[1:]),
        "outside_steps_s": outcome.duration_s - sum(step.seconds for step in steps),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "losses": [step.loss for step in steps],
    }


def by_hand(policy: Policy, job: JobRequest) -> dict[str, Any]:
    """The same job, straight from the formulas."""
    rows = _rows(policy, job)
    size = min(policy.settings.micro_batch_size, len(rows))
    batches = micro_batches(rows, size, policy.tokenizer.pad_token_id, policy.device)
    with policy.lend() as base:
        lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        model: Any = get_peft_model(base, lora)
        if policy.settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        return _hand_written_steps(model, batches, job.hyperparameters)


def _hand_written_steps(model: Any, batches: list[dict[str, Any]], values: Hyperparameters) -> dict[str, Any]:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=values.learning_rate, weight_decay=0.0)
    with torch.no_grad():
        old = [_log_probs(model, batch) for batch in batches]  # the base model too: a fresh adapter
    times, losses = [], []
    torch.cuda.reset_peak_memory_stats()
    for _ in range(values.learning_steps):
        torch.cuda.synchronize()
        start = time.perf_counter()
        total = torch.zeros((), device="cuda")
        for batch, before in zip(batches, old, strict=True):
            new = _log_probs(model, batch)
            ratio, advantage = (new - before).exp(), batch["advantages"].unsqueeze(1)
            clipped = ratio.clamp(1 - values.epsilon, 1 + values.epsilon)
            kl = (before - new).exp() - (before - new) - 1
            token_loss = -torch.minimum(ratio * advantage, clipped * advantage) + values.beta * kl
            loss = (token_loss * batch["completion_mask"]).sum() / batch["num_items_in_batch"]
            loss.backward()
            total += loss.detach()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total.item())
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak_gib = torch.cuda.max_memory_allocated() / 2**30
    return {"step_s": statistics.median(times[1:]), "peak_gib": peak_gib, "losses": losses}


def _log_probs(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """(B, C) log-probabilities of the completion tokens."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    num_columns = batch["completion_ids"].size(1)
    with torch.autocast("cuda", torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=num_columns + 1).logits[:, :-1]
    logits = logits.float()
    return logits.gather(-1, batch["completion_ids"].unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32, help="of the model; 32 is Llama-3.1-8B")
    parser.add_argument("--micro-batch-size", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("bench/results/gpu-training.json"))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        write_model(scratch / "model", options.layers, "cuda")
        torch.cuda.empty_cache()
        for checkpointing in (True, False):
            settings = TrainingSettings(
                use_gpu=True,
                dtype="bfloat16",
                micro_batch_size=options.micro_batch_size,
                gradient_checkpointing=checkpointing,
            )
            start = time.perf_counter()
            policy = Policy(str(scratch / "model"), settings, 8192)
            print(f"checkpointing={checkpointing}: model resident after {time.perf_counter() - start:.1f} s")
            rows += [compare(policy, shape, scratch) for shape in SHAPES]
            del policy
            torch.cuda.empty_cache()
    device = torch.cuda.get_device_name()
    report = {
        "device": device,
        "torch": torch.__version__,
        "layers": options.layers,
        "rank": RANK,
        "micro_batch_size": options.micro_batch_size,
        "prompt_tokens": PROMPT_TOKENS,
        "rows": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{device}: written to {options.output}", file=sys.stderr)


def compare(policy: Policy, shape: tuple[int, int], scratch: Path) -> dict[str, Any]:
    num_responses, num_tokens = shape
    job = request(num_responses, num_tokens)
    hand = _or_out_of_memory(lambda: by_hand(policy, job))
    mine = _or_out_of_memory(lambda: ours(policy, job, scratch))
    row = {
        "responses": num_responses,
        "completion_tokens": num_tokens,
        "gradient_checkpointing": policy.settings.gradient_checkpointing,
        "tiger": mine,
        "by_hand": hand,
        "ratio": mine["step_s"] / hand["step_s"] if "step_s" in mine and "step_s" in hand else None,
    }
    print(
        f"{num_responses:3d} x {num_tokens:4d} tokens: tiger {mine.get('step_s', 0):.3f} s a step, "
        f"by hand {hand.get('step_s', 0):.3f} s, ratio {row['ratio'] or 0:.3f}; "
        f"outside steps {mine.get('outside_steps_s', 0):.2f} s; peak {mine.get('peak_gib', 0):.1f} GiB; "
        f"loss {mine.get('losses', [0])[-1]:.5f} {hand.get('losses', [0])[-1]:.5f}",
        flush=True,
    )
    return row


def _or_out_of_memory(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return run()
    except torch.cuda.OutOfMemoryError:
        return {"out_of_memory": True}
    finally:
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

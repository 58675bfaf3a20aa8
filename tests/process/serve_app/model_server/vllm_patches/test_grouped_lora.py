"""Adapters on the CPU, compared with the definition: every token with its own adapter's matrices or none."""

import random as random_module
from collections.abc import Sequence
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from vllm.lora import model_manager
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.model_executor.layers.linear import LinearBase
from vllm.platforms.cpu import CpuPlatform

from serve_app.model_server.vllm_patches.grouped_lora import (
    FEW_ROWS,
    GroupedLora,
    linear_modules,
    register,
    vllm_supported_modules,
)

SLOTS, RANK, WIDTH = 3, 4, 16
OUTPUTS = (8, 6)
SCALE = 0.5


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).to(torch.bfloat16)


def prepared(kind: type[PunicaWrapperCPU], adapters: Sequence[int]) -> PunicaWrapperCPU:
    """A wrapper that is prepared for a batch with one token of each of these adapters; 0 is none."""
    wrapper = kind(128, 128, "cpu")
    map_batch(wrapper, adapters)
    return wrapper


def map_batch(wrapper: PunicaWrapperCPU, adapters: Sequence[int]) -> None:
    mapping = SimpleNamespace(index_mapping=adapters, prompt_mapping=adapters, is_prefill=True)
    wrapper.update_metadata(mapping, list(range(1, SLOTS + 1)), SLOTS, 100)


def defined(
    y: torch.Tensor,
    x: torch.Tensor,
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    adapters: Sequence[int],
) -> torch.Tensor:
    expected = y.float()
    for row, adapter in enumerate(adapters):
        if adapter:
            slot = adapter - 1
            deltas = [
                (m_b[slot, 0].float() @ (m_a[slot, 0].float() @ x[row].float()))
                for m_a, m_b in zip(a, b, strict=True)
            ]
            expected[row] += SCALE * torch.cat(deltas)
    return expected


@pytest.fixture
def matrices() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    torch.manual_seed(0)
    a = [random(SLOTS, 1, RANK, WIDTH) for _ in OUTPUTS]
    b = [random(SLOTS, 1, width, RANK) for width in OUTPUTS]
    return a, b


@pytest.mark.parametrize("adapters", [(1, 1, 1), (2,), (0, 0), (1, 2, 3, 1), (0, 3, 0, 1), (3, 0)], ids=str)
def test_every_token_has_its_own_adapter_or_none(
    matrices: tuple[list[torch.Tensor], list[torch.Tensor]], adapters: tuple[int, ...]
) -> None:
    a, b = matrices
    x, y = random(len(adapters), WIDTH), random(len(adapters), sum(OUTPUTS))
    before = y.clone()
    prepared(GroupedLora, adapters).add_lora_linear(y, x, a, b, SCALE, OUTPUTS)
    torch.testing.assert_close(y.float(), defined(before, x, a, b, adapters), rtol=0.03, atol=0.06)
    without = [row for row, adapter in enumerate(adapters) if adapter == 0]
    assert torch.equal(y[without], before[without])


@pytest.mark.parametrize("num_tokens", [FEW_ROWS, FEW_ROWS + 1])
def test_an_adapter_that_is_not_finite_spoils_only_its_own_tokens(
    matrices: tuple[list[torch.Tensor], list[torch.Tensor]], num_tokens: int
) -> None:
    a, b = matrices
    for matrix in (*a, *b):
        matrix[1] = torch.inf  # of adapter 2
    adapters = [1, 2, 0, 3] * (num_tokens // 4) + [1] * (num_tokens % 4)
    x, y = random(num_tokens, WIDTH), random(num_tokens, sum(OUTPUTS))
    prepared(GroupedLora, adapters).add_lora_linear(y, x, a, b, SCALE, OUTPUTS)
    is_finite = y.isfinite().all(dim=1).tolist()
    assert is_finite == [adapter != 2 for adapter in adapters]


@pytest.mark.parametrize("seed", range(60))
def test_any_calls_of_any_batch_give_each_row_its_own(seed: int) -> None:
    """An engine makes steps one after another through one wrapper.

    They have few rows or many, with padding, and several layers with one part or with three.
    """
    choice = random_module.Random(seed)
    torch.manual_seed(seed)
    wrapper = GroupedLora(128, 128, "cpu")
    for _ in range(4):
        num_rows = choice.choice([1, 2, 3, 7, FEW_ROWS - 1, FEW_ROWS, FEW_ROWS + 1, 120])
        adapters = choice.choices(range(choice.choice([1, 2, SLOTS + 1])), k=num_rows)
        map_batch(wrapper, adapters)
        for _ in range(choice.randint(1, 4)):
            outputs = choice.choice([(8,), (8, 6), (5, 3, 3)])
            padding = choice.choice([0, 0, 3])
            a = [random(SLOTS, 1, RANK, WIDTH) for _ in outputs]
            b = [random(SLOTS, 1, width, RANK) for width in outputs]
            x, before = random(num_rows + padding, WIDTH), random(num_rows + padding, sum(outputs))
            y = before.clone()
            wrapper.add_lora_linear(y, x, a, b, SCALE, outputs)
            expected = defined(before, x, a, b, [*adapters, *[0] * padding])
            torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.1)
            others = [row for row, adapter in enumerate([*adapters, *[0] * padding]) if not adapter]
            assert torch.equal(y[others], before[others])
            if 0 not in adapters and not padding:
                vllms = before.clone()
                prepared(PunicaWrapperCPU, adapters).add_lora_linear(
                    vllms, x, tuple(a), tuple(b), SCALE, outputs
                )
                torch.testing.assert_close(y, vllms, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("adapters", [(1, 2, 1, 2), (0, 0, 1), (1,) * 70, (1, 2) * 40], ids=len)
def test_rows_of_another_batch_are_refused(
    matrices: tuple[list[torch.Tensor], list[torch.Tensor]], adapters: tuple[int, ...]
) -> None:
    """The log-probabilities of one short prompt beside other requests are such rows."""
    a, b = matrices
    wrapper = prepared(GroupedLora, adapters)
    with pytest.raises(ValueError, match="1 rows for a batch of"):
        wrapper.add_lora_linear(random(1, sum(OUTPUTS)), random(1, WIDTH), a, b, SCALE, OUTPUTS)


@pytest.mark.parametrize(
    "name",
    ["add_shrink", "add_expand", "add_lora_embedding", "add_lora_logits", "apply_lora_full_linear"],
)
def test_what_takes_the_rows_of_a_sampled_batch_is_refused(name: str) -> None:
    with pytest.raises(NotImplementedError):
        getattr(prepared(GroupedLora, (1, 2)), name)()


class Linear(LinearBase):
    def __init__(self) -> None:
        torch.nn.Module.__init__(self)


class Model(torch.nn.Module):
    embedding_modules: ClassVar = {"embed_tokens": "input_embeddings", "lm_head": "output_embeddings"}

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = Linear()


def test_only_linear_layers_take_adapters() -> None:
    assert set(vllm_supported_modules(Model())) == {"q_proj", "embed_tokens", "lm_head"}
    assert linear_modules(Model()) == ["q_proj"]


def test_agrees_with_vllm_where_every_token_has_an_adapter(
    matrices: tuple[list[torch.Tensor], list[torch.Tensor]],
) -> None:
    a, b = matrices
    adapters = (1, 3, 3, 2)
    x, before = random(4, WIDTH), random(4, sum(OUTPUTS))
    answers = []
    for kind in (PunicaWrapperCPU, GroupedLora):
        y = before.clone()
        prepared(kind, adapters).add_lora_linear(y, x, tuple(a), tuple(b), SCALE, OUTPUTS)
        answers.append(y)
    torch.testing.assert_close(answers[0], answers[1], rtol=0.02, atol=0.02)


def test_is_put_in_vllms_place_by_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    (plugin,) = [p for p in entry_points(group="vllm.general_plugins") if p.name == "tiger_grouped_lora"]
    assert plugin.load() is register
    monkeypatch.setattr(CpuPlatform, "get_punica_wrapper", CpuPlatform.get_punica_wrapper)
    monkeypatch.setattr(model_manager, "get_supported_lora_modules", vllm_supported_modules)
    register()
    assert model_manager.get_supported_lora_modules is linear_modules
    assert CpuPlatform.get_punica_wrapper() == "serve_app.model_server.vllm_patches.grouped_lora.GroupedLora"

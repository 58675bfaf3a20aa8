"""Adapters on the CPU, against the definition: every token with its own adapter's matrices, or with none."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest
import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms.cpu import CpuPlatform

from serve_app.grouped_lora import FEW_ROWS, GroupedLora, register

SLOTS, RANK, WIDTH = 3, 4, 16
OUTPUTS = (8, 6)
SCALE = 0.5


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).to(torch.bfloat16)


def prepared(kind: type[PunicaWrapperCPU], adapters: Sequence[int]) -> PunicaWrapperCPU:
    """For a batch with one token of each of these adapters; 0: none."""
    wrapper = kind(128, 128, "cpu")
    mapping = SimpleNamespace(index_mapping=adapters, prompt_mapping=adapters, is_prefill=True)
    wrapper.update_metadata(mapping, list(range(1, SLOTS + 1)), SLOTS, 100)
    return wrapper


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


def test_logits_of_the_base_model_are_its_own(
    matrices: tuple[list[torch.Tensor], list[torch.Tensor]],
) -> None:
    a, b = matrices
    adapters = (0, 2, 3, 0)
    x, y = random(4, WIDTH), random(4, OUTPUTS[0] + 2)  # a padded vocabulary
    before = y.clone()
    prepared(GroupedLora, adapters).add_lora_logits(y, x, a[0], b[0], SCALE)
    expected = defined(before[:, : OUTPUTS[0]], x, a[:1], b[:1], adapters)
    torch.testing.assert_close(y[:, : OUTPUTS[0]].float(), expected, rtol=0.03, atol=0.06)
    assert torch.equal(y[[0, 3]], before[[0, 3]])
    assert torch.equal(y[:, OUTPUTS[0] :], before[:, OUTPUTS[0] :])


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
    register()
    assert CpuPlatform.get_punica_wrapper() == "serve_app.grouped_lora.GroupedLora"

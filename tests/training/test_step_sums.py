"""The measures of a step, compared with numbers that were worked out by hand."""

import math
from dataclasses import fields
from typing import Any

import pytest
import torch

from training.worker.packs import Pack
from training.worker.step_sums import StepSums


def pack_of(advantages: list[float]) -> Pack:
    values: dict[str, Any] = {field.name: None for field in fields(Pack)}
    return Pack(**{**values, "advantages": torch.tensor(advantages)})


def test_measures_are_means_over_the_tokens_of_all_packs() -> None:
    sums = StepSums(torch.device("cpu"))
    for advantage, ratio in ((1.0, 1.5), (-1.0, 0.5), (1.0, 0.5), (-1.0, 1.5)):
        now = torch.tensor([math.log(ratio)])
        sums.add(torch.tensor(0.25), pack_of([advantage]), now, torch.zeros(1), now - 1.0, 0.2, 0.2)
    loss, kl, clip_ratio = sums.measures(num_tokens=4)
    assert loss == pytest.approx(1.0), "losses of packs are shares of the loss of the step"
    assert kl == pytest.approx(math.exp(-1))
    assert clip_ratio == 0.5, "only a ratio that went as far as its advantage wants is clipped"

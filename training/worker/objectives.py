"""Chooses the objective of a job by its method."""

from collections.abc import Sequence

import torch

from registry.records import Method
from training.types import Assignment
from training.worker.dpo import Dpo
from training.worker.grpo import Grpo, TrlLoss
from training.worker.objective import Objective
from training.worker.packs import Row
from training.worker.state import TrainingState
from training.worker.supervised import Supervised


def objective_of(
    assignment: Assignment,
    rows: Sequence[Row],
    device: torch.device,
    is_fresh: bool,
    state: TrainingState | None,
    trl_loss: TrlLoss,
) -> Objective:
    values = assignment.request.hyperparameters
    match assignment.request.method:
        case Method.GRPO:
            has_dropout = assignment.dropout > 0
            return Grpo(rows, device, values.epsilon, is_fresh, has_dropout, state, trl_loss)
        case Method.SUPERVISED:
            return Supervised(rows, device)
        case Method.DPO:
            return Dpo(rows, device, values.beta, state)

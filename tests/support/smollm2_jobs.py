"""Trainings of the real SmolLM2, in this process."""

from pathlib import Path

from registry.records import Group, Hyperparameters, JobRequest, Message, RewardedResponse
from training.types import Assignment, StepProgress, TrainingOutcome
from training.worker import job as training_job
from training.worker.resident_model import ResidentModel
from training.worker.state import OptimizerState

RANK = 8
ALPHA = 16
STEPS = 4
LEARNING_RATE = 2e-4
BETA = 0.04
EPSILON = 0.2


def group_of(question: str, answers: dict[str, float]) -> Group:
    return Group(
        messages=(Message(role="system", content="Be brief."), Message(role="user", content=question)),
        responses=tuple(RewardedResponse(content=text, reward=reward) for text, reward in answers.items()),
    )


GROUPS = (
    group_of("Name a colour.", {"Blue, like the sea.": 1.0, "No.": -1.0, "It is hard to say which.": 0.0}),
    group_of("2 + 2?", {"4": 1.0, "It makes 5, I am sure.": 0.0}),
)


def assignment_of(job_id: str = "job", steps: int = STEPS, groups: tuple[Group, ...] = GROUPS) -> Assignment:
    return Assignment(
        job_id=job_id,
        attempt=1,
        user="alice",
        uid="0" * 32,
        base_model="smollm2-135m",
        parent_revision=0,
        has_parent_adapter=False,
        revision=1,
        rank=RANK,
        alpha=float(ALPHA),
        dropout=0.0,
        request=JobRequest(
            groups=groups,
            hyperparameters=Hyperparameters(
                learning_rate=LEARNING_RATE, learning_steps=steps, beta=BETA, epsilon=EPSILON
            ),
        ),
    )


class Job:
    """One call of `train`, with its steps and its outcome."""

    def __init__(
        self,
        resident: ResidentModel,
        output: Path,
        assignment: Assignment | None = None,
        parent: Path | None = None,
        optimizer_state: OptimizerState | None = None,
    ) -> None:
        self.steps: list[StepProgress] = []
        self.output = output
        self.outcome: TrainingOutcome
        self.outcome, self.optimizer_state = training_job.train(
            resident,
            assignment or assignment_of(),
            parent,
            output,
            self.steps.append,
            lambda: False,
            parent_optimizer=optimizer_state,
        )

    def column(self, name: str) -> list[float]:
        return [getattr(step, name) for step in self.steps]

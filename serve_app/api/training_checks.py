"""Checks a training before it is accepted. The cheap checks come first; only what passes them is tokenised.

values, numbers, learning signal  ->  a replica of the base model counts the tokens  ->  tokens in all steps
"""

import math
from collections.abc import Iterable, Iterator

from registry.errors import InvalidRequest, NoLearningSignal
from registry.records import Group, JobRequest, Method, ModelRecord
from serve_app.api.backends import Backends
from serve_app.api.value_limits import check_training_values
from serve_app.settings import LimitSettings
from serve_app.wire.train import Train
from training.advantages import advantages
from training.learning_signal import NOTHING_LEFT, is_empty, is_lost


async def check_training(
    backends: Backends, user: str, model: ModelRecord, request: Train, job: JobRequest
) -> None:
    """Raises: InvalidRequest, NoLearningSignal, ContextLengthExceeded, RateLimited."""
    limits = backends.settings.limits
    taught = taught_field(request)
    check_training_values(request, job, model, limits)
    _check_number(job, limits, taught)
    _check_signal(job, taught)
    server = await backends.tokenising_server(model.base_model)
    is_single = taught == "responses"
    num_tokens = await server.count_training_tokens(user, job, limits.max_tokens_per_job, is_single)
    check_trained_tokens(num_tokens, request, job, limits)


def taught_field(request: Train) -> str:
    """Returns the field of a request that has what is taught."""
    if request.method == "grpo":
        return "responses" if request.groups is None else "groups"
    return "examples" if request.method == "supervised" else "pairs"


def _check_number(job: JobRequest, limits: LimitSettings, taught: str) -> None:
    if job.method is Method.GRPO:
        number, unit = sum(len(group.responses) for group in job.groups), "responses"
        most = limits.max_responses_per_job
    else:
        number, unit, most = len(job.examples) + len(job.pairs), taught, limits.max_examples_per_job
    if number > most:
        raise InvalidRequest(f"there are {number} {unit}; one training takes at most {most}", taught)


def _check_signal(job: JobRequest, taught: str) -> None:
    if job.method is Method.GRPO:
        if all(len({response.reward for response in group.responses}) == 1 for group in job.groups):
            raise NoLearningSignal(
                "in every group all rewards are equal, so there is nothing to learn", taught
            )
        if is_lost(_sizes(job.groups)):
            raise NoLearningSignal(NOTHING_LEFT, taught)
    elif job.method is Method.SUPERVISED and all(example.weight == 0 for example in job.examples):
        raise NoLearningSignal("every example has weight 0, so there is nothing to learn", taught)
    elif job.method is Method.DPO and all(pair.preferred == pair.rejected for pair in job.pairs):
        raise NoLearningSignal("in every pair both responses are equal, so there is nothing to learn", taught)


def _sizes(groups: Iterable[Group]) -> Iterator[tuple[float, int]]:
    """Yields the advantage of each response, with 0 if it has no tokens and 1 if it may have some."""
    for group in groups:
        scores = advantages([response.reward for response in group.responses])
        for response, advantage in zip(group.responses, scores, strict=True):
            yield advantage, 0 if is_empty(response) else 1


def check_trained_tokens(num_tokens: int, request: Train, job: JobRequest, limits: LimitSettings) -> None:
    """Checks the tokens in all steps of a training that has `num_tokens`. Raises: InvalidRequest."""
    values, most = job.hyperparameters, limits.max_trained_tokens_per_job
    duration, field = f"{values.learning_steps} steps", "learning_steps"
    in_all_steps = num_tokens * values.learning_steps
    if values.batch_size is not None:
        taught = taught_field(request)
        duration += f" of {values.batch_size} {taught}"
        field = "epochs" if request.learning_steps is None else field
        epochs = _num_epochs(values.learning_steps, values.batch_size, len(getattr(job, taught)))
        in_all_steps = math.ceil(num_tokens * epochs)
    if in_all_steps > most:
        raise InvalidRequest(
            f"{num_tokens} tokens in {duration} are {in_all_steps}; one training takes at most {most}", field
        )


def _num_epochs(num_steps: int, batch_size: int, number: int) -> float:
    """Returns how often so many steps go through all examples or pairs. The last batch may be small."""
    epochs, num_rest = divmod(num_steps, math.ceil(number / batch_size))
    return epochs + num_rest * batch_size / number

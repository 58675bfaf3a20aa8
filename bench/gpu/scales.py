"""The two sizes in which everything is measured: a Llama-3.1-8B on one GPU, and a tiny model.

The figures of the tiny one mean nothing. It shows that each command works, on a machine without a GPU.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from serve_app.settings import CONFIG_DIRECTORY

MANY = 10**9


@dataclass(frozen=True)
class LlamaShape:
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int


@dataclass(frozen=True)
class TrainingWork:
    """The size of a training. The words of a text are tokens, or nearly so."""

    groups: int
    responses: int
    prompt_words: int
    response_words: int
    steps: int = 5


@dataclass(frozen=True)
class Scale:
    """A size of the measurement.

    `config` and `base_model` name the configuration in `configs/` and its base model. `serving`, `engine` and
    `training` are changes to their sections. `levels` has the rounds and the requests of a round by the
    number of requests at once. `needs_s` is the least time with which a part is begun.
    """

    name: str
    llama: LlamaShape
    config: str
    base_model: str
    engine: Mapping[str, Any]
    training: Mapping[str, Any]
    levels: Mapping[int, tuple[int, int]]
    first_token_rounds: tuple[int, int]
    max_tokens: int
    adapters: tuple[int, ...]
    adapters_at_once: int
    num_first_asks: int
    num_trainings: int
    work: TrainingWork
    long_work: TrainingWork
    stream_tokens: int
    settle_s: float
    needs_s: Mapping[str, float]
    serving: Mapping[str, Any] = field(default_factory=dict)


FULL = Scale(
    name="llama-8b",
    llama=LlamaShape(128256, 4096, 14336, 32, 32, 8),
    config="one-gpu",
    base_model="llama-3.1-8b",
    # The configuration has two base models on the GPU. Here bare vLLM has the place of the second one. A
    # quarter of the places stays free for other users, and all requests are of one user.
    engine={"max_num_seqs": 176},
    training={},
    # The numbers with an aim come first.
    levels={64: (2, 192), 1: (3, 4), 16: (2, 64), 128: (2, 256)},
    first_token_rounds=(8, 6),
    max_tokens=128,
    adapters=(1, 4, 32, 33, 128),
    adapters_at_once=64,
    num_first_asks=8,
    num_trainings=3,
    work=TrainingWork(groups=4, responses=8, prompt_words=64, response_words=128),
    long_work=TrainingWork(groups=4, responses=8, prompt_words=64, response_words=256),
    stream_tokens=1500,
    settle_s=0.1,
    needs_s={
        "up": 90,
        "serving": 100,
        "adapters": 40,
        "loop": 60,
        "two trainings": 45,
        "training": 60,
    },
)
TINY = Scale(
    name="tiny",
    llama=LlamaShape(49152, 256, 512, 2, 4, 2),
    config="local",
    base_model="smollm2-135m",
    engine={},
    training={"share_gpu": True},
    levels={2: (1, 4), 1: (1, 2)},
    first_token_rounds=(1, 2),
    max_tokens=16,
    adapters=(1, 2, 5),
    adapters_at_once=4,
    num_first_asks=2,
    num_trainings=1,
    work=TrainingWork(groups=1, responses=2, prompt_words=8, response_words=8, steps=2),
    long_work=TrainingWork(groups=1, responses=4, prompt_words=8, response_words=16, steps=2),
    stream_tokens=60,
    settle_s=0.1,
    needs_s={"up": 30, "serving": 30, "adapters": 15, "loop": 15, "two trainings": 10, "training": 20},
)
SCALES = {scale.name: scale for scale in (FULL, TINY)}


def configuration(scale: Scale, weights: Path, engine: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the instance: one base model with random weights, and no limit of requests.

    `engine` has engine arguments that win over those of the scale.
    """
    values: dict[str, Any] = yaml.safe_load((CONFIG_DIRECTORY / f"{scale.config}.yaml").read_text())
    # The sections of two models can be one object, by an anchor in the file.
    model = copy.deepcopy(next(each for each in values["models"] if each["id"] == scale.base_model))
    model |= {"source": str(weights), "chat_template": "smollm2"}
    serving = model["serving"]
    serving |= scale.serving
    serving["engine"] = {**serving.get("engine", {}), **scale.engine, **engine}
    serving["environment"] = {**serving.get("environment", {}), "HF_HUB_OFFLINE": "1"}
    model["training"] = {**model["training"], **scale.training}
    limits = {**values.get("limits", {}), "max_requests_per_minute_per_user": MANY}
    return {**values, "default_model": model["id"], "models": [model], "limits": limits}

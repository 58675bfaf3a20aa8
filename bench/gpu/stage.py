"""The measured instance, and the users and models that the parts of a run need in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.gpu.scales import Scale, TrainingWork
from bench.temporary_instance import client
from serve_app.instance.instance import Instance
from serve_app.settings import BaseModelSettings

WORDS = ["red", "blue", "green", "sky", "sea", "tree", "stone", "bird", "fish", "sun", "moon", "star"]


@dataclass(frozen=True)
class Stage:
    """`directory` is for files of this run, `logs` for logs that are kept with the results."""

    instance: Instance
    scale: Scale
    directory: Path
    logs: Path

    @property
    def base(self) -> BaseModelSettings:
        settings = self.instance.settings
        return settings.base_model(settings.default_model)

    def client(self, user: str) -> httpx.Client:
        return client(self.instance, user)


def create_model(http: httpx.Client, base: BaseModelSettings, name: str) -> str:
    """Make a private model that was never trained; returns its id."""
    body = {"name": name, "description": "", "parent_model": base.id}
    created: str = http.post("/v1/models", json=body).raise_for_status().json()["id"]
    return created


def request_of(work: TrainingWork) -> dict[str, Any]:
    """The request of a training of this size, without its model. All prompts and responses differ."""

    def text(num_words: int, seed: int) -> str:
        return " ".join(
            WORDS[(seed * 7 + index * 3 + index // 12) % len(WORDS)] for index in range(num_words)
        )

    def group(number: int) -> dict[str, Any]:
        responses = [
            {
                "content": f"{number} {index} {text(work.response_words, number + index)}",
                "reward": float(index % 3),
            }
            for index in range(work.responses)
        ]
        prompt = {"role": "user", "content": f"{number} {text(work.prompt_words, number)}"}
        return {"messages": [prompt], "responses": responses}

    return {
        "groups": [group(number) for number in range(work.groups)],
        "learning_steps": work.steps,
        "learning_rate": 1e-5,
    }

"""Our side: the loop that a user of the API writes. It generates, scores, trains and repeats, over HTTP."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from bench.learning.curves import Curve, HeldOut, Round, Setup, judge
from bench.learning.tasks import Example, Task

TIMEOUT_S = 900
Response = dict[str, Any]
"""A response as the API returns it: `content`, `stop_reason`, and `reward` after it was scored."""


class Loop:
    """The loop for one private model of `base_model` and one task."""

    def __init__(self, url: str, key: str, base_model: str, task: Task, setup: Setup) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self._task = task
        self._setup = setup
        model = {
            "name": f"Bench {task.name} {time.time_ns()}",
            "description": task.goal,
            "parent_model": base_model,
            "rank": setup.rank,
            "alpha": setup.alpha,
        }
        self._model: str = self._post("/v1/models", model)["id"]

    def learn(self) -> Curve:
        """Run all rounds, and print a line for each."""
        start = self._ask()
        rounds: list[Round] = []
        for number in range(1, self._setup.num_rounds + 1):
            rounds.append(self._round(number))
            print(f"tiger  {self._task.name:7} {rounds[-1].as_line()}", flush=True)
        return Curve(start, rounds)

    def _round(self, number: int) -> Round:
        began_at = time.perf_counter()
        groups = [self._scored(*pair) for pair in zip(self._task.training, self._samples(), strict=True)]
        generated_at = time.perf_counter()
        kl = self._train(groups)
        train_s = time.perf_counter() - generated_at
        rewards = [response["reward"] for group in groups for response in group["responses"]]
        return Round(
            number=number,
            reward=sum(rewards) / len(rewards),
            kl=kl,
            held_out=self._ask(),
            generate_s=generated_at - began_at,
            train_s=train_s,
        )

    def _samples(self) -> list[list[Response]]:
        return self._generate(self._task.training, n=self._setup.group_size, temperature=1, top_p=1)

    def _ask(self) -> HeldOut:
        answers = self._generate(self._task.held_out, temperature=0)
        return judge(self._task, [responses[0]["content"] for responses in answers])

    def _scored(self, example: Example, responses: Sequence[Response]) -> dict[str, Any]:
        """A group with its rewards, as `/v1/train` takes it."""
        scored = [{**each, "reward": self._task.reward(example, each["content"])} for each in responses]
        return {"messages": self._task.messages(example), "responses": scored}

    def _train(self, groups: list[dict[str, Any]]) -> float | None:
        """Train; returns the KL of the last step, or None if the API says that there is nothing to learn."""
        body = {
            "model": self._model,
            "groups": groups,
            "learning_rate": self._setup.learning_rate,
            "learning_steps": self._setup.learning_steps,
            "beta": self._setup.beta,
            "epsilon": self._setup.epsilon,
        }
        answer = self._http.post("/v1/train", json=body)
        if answer.status_code == 422 and answer.json()["error"]["code"] == "no_learning_signal":
            return None
        kl: float = answer.raise_for_status().json()["metrics"]["kl"]
        return kl

    def _generate(self, examples: Sequence[Example], **options: Any) -> list[list[Response]]:
        """The responses to each example. All requests are sent at once."""

        def ask(example: Example) -> list[Response]:
            body = {
                "model": self._model,
                "messages": self._task.messages(example),
                "max_tokens": self._task.max_tokens,
                **options,
            }
            responses: list[Response] = self._post("/v1/generate_response", body)["responses"]
            return responses

        with ThreadPoolExecutor(len(examples)) as threads:
            return list(threads.map(ask, examples))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._http.post(path, json=body).raise_for_status().json()

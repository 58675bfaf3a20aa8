"""Demonstrates the service over HTTP: copies a model, teaches it with rewards, and talks to it.

The model's own answers get reward 0, and the wanted answer gets reward 1. After a few trainings the model
gives the wanted answer itself.
"""

from collections.abc import Callable
from typing import Any

import httpx

QUESTION = "Who are you?"
WANTED = "I am Tiger, and I work for you."
MAX_ROUNDS = 10
TIMEOUT_S = 900


class Demo:
    """The demonstration. It calls `report` with each line to show.

    Raises: `httpx.HTTPError`, if the API refuses something.
    """

    def __init__(self, url: str, key: str, report: Callable[[str], None]) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self._report = report

    def run(self) -> None:
        model = self._create()
        before = self._ask(model)
        self._report(f"before: {QUESTION} -> {before!r}")
        answer, rounds = before, 0
        while answer != WANTED and rounds < MAX_ROUNDS:
            rounds += 1
            trained = self._teach(model, self._generate(model, temperature=1, n=3))
            answer = self._ask(model)
            metrics, duration_s = trained["metrics"], trained["usage"]["duration"]
            self._report(
                f"revision {trained['revision']}: loss {metrics['loss']:+.3f}, KL {metrics['kl']:.3f}, "
                f"{duration_s:.1f} s; now it says {answer!r}"
            )
        self._report(f"after {rounds} trainings: {QUESTION} -> {answer!r}")
        self._report(f"revision 0, as ever: {QUESTION} -> {self._ask(f'{model}@0')!r}")

    def _create(self) -> str:
        taken = {model["name"] for model in self._call("GET", "/v1/models")}
        name = next(name for n in range(1, 10_000) if (name := f"Demo {n}") not in taken)
        body = {"name": name, "description": "Made by `tiger demo`.", "parent_model": self._default_model()}
        model: str = self._call("POST", "/v1/models", body)["id"]
        self._report(f"created the model {model!r}")
        return model

    def _default_model(self) -> str:
        return next(model["id"] for model in self._call("GET", "/v1/models") if model["default_model"])

    def _generate(self, model: str, **options: Any) -> list[dict[str, Any]]:
        messages = [{"role": "user", "content": QUESTION}]
        body = {"model": model, "messages": messages, "max_tokens": 16, **options}
        responses: list[dict[str, Any]] = self._call("POST", "/v1/generate_response", body)["responses"]
        return responses

    def _ask(self, model: str) -> str:
        content: str = self._generate(model, temperature=0)[0]["content"]
        return content

    def _teach(self, model: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
        unwanted = [{**sample, "reward": 0} for sample in samples if sample["content"] != WANTED]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": QUESTION}],
            "responses": [{"content": WANTED, "reward": 1}, *(unwanted or [{"content": "?", "reward": 0}])],
            "learning_rate": 3e-4,
            "learning_steps": 4,
            "beta": 0.01,
        }
        trained: dict[str, Any] = self._call("POST", "/v1/train", body)
        return trained

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, path, json=body)
        if answer.is_error:
            raise httpx.HTTPStatusError(
                answer.json()["error"]["message"], request=answer.request, response=answer
            )
        return answer.json()

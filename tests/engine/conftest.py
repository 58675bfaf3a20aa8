"""vLLM alone, with the arguments and plugins that a replica of configs/test.yaml has: no Ray, no HTTP."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from serve_app.app import llm_config
from serve_app.instance.weights import prepare_weights
from serve_app.settings import load_settings

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "test.yaml"
TIMEOUT_S = 300.0


class Engine:
    """AsyncLLM in an event loop of its own. `generate` waits for the outputs; `start` does not."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._num_requests = 0
        self.llm = self.run(self._build(arguments))

    async def _build(self, arguments: dict[str, Any]) -> Any:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        known = {field.name for field in fields(AsyncEngineArgs)}  # the others are for its HTTP server
        of_engine = {name: value for name, value in arguments.items() if name in known}
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**of_engine))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._later(work).result(TIMEOUT_S)

    def _later(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def start(
        self, token_ids: Sequence[int], lora: Any = None, salt: str = "", **params: Any
    ) -> "Future[Any]":
        return self._later(self._generate(token_ids, lora, salt, params))

    def generate(self, token_ids: Sequence[int], lora: Any = None, salt: str = "", **params: Any) -> Any:
        return self.start(token_ids, lora, salt, **params).result(TIMEOUT_S)

    async def _generate(
        self, token_ids: Sequence[int], lora: Any, salt: str, params: dict[str, Any]
    ) -> list[Any]:
        """All outputs of a generation."""
        from vllm import SamplingParams

        self._num_requests += 1
        given = SamplingParams(**{"temperature": 0, "max_tokens": 4, **params})
        prompt = {"prompt_token_ids": list(token_ids), "cache_salt": salt or f"salt-{self._num_requests}"}
        outputs = self.llm.generate(prompt, given, f"r{self._num_requests}", lora_request=lora)
        return [output async for output in outputs]

    def close(self) -> None:
        self.llm.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    settings = load_settings(str(CONFIG))
    model = settings.models[0]
    weights = prepare_weights(model, settings.weights_directory.expanduser())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (model.serving.environment | {"OMP_NUM_THREADS": "1"}).items():
            patch.setenv(name, value)
        asked = llm_config(model, settings).engine_kwargs
        engine = Engine({**asked, "model": str(weights), "distributed_executor_backend": "mp"})
        try:
            yield engine
        finally:
            engine.close()


@pytest.fixture
def build_lora(engine: Engine) -> Iterator[Callable[[Path], Any]]:
    """A function that makes vLLM's LoRA requests from directories. The adapters are removed at the end."""
    from vllm.lora.request import LoRARequest

    made: list[Any] = []

    def build(directory: Path) -> Any:
        lora_id = abs(hash(directory)) % 2**31 + 1
        made.append(LoRARequest(str(lora_id), lora_id, str(directory)))
        return made[-1]

    yield build
    for request in made:
        engine.run(engine.llm.remove_lora(request.lora_int_id))

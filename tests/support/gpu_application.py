"""The real application of a GPU configuration, on a Ray whose GPUs are only numbers.

Every deployment is the real one, with its real resources. The engine in a replica and the training runs stand
in for vLLM and Ray Train. They tell which GPU Ray gave to them.
"""

import os
import secrets
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import ray
from ray import serve
from ray.serve import Application
from ray.serve.llm import LLMConfig

from registry.keys import ApiKeys
from registry.settings import StorageSettings
from registry.store import ObjectStore
from serve_app.app import build_model_server
from serve_app.application import build_application
from serve_app.deployed_settings import Document
from serve_app.http_settings import HttpSettings
from serve_app.instance import haproxy
from serve_app.instance.seaweedfs import ObjectServer, stop
from serve_app.serve_config import CORE_IMPORT_PATH, serve_config
from serve_app.settings import IngressSettings, read_document
from tests.support.account import Account
from tests.support.ray_private import deploy_applications
from tests.support.stand_in_run import gpu_of_this_process, start_stand_in
from tests.support.storage import free_port
from tests.support.tokenizers import byte_level

NUM_GPUS = 4
BUCKET = "tests"


class StandInClient:
    """The parts of vLLM's AsyncLLM that a replica uses. Its answer is the number of its GPU."""

    errored = False
    logger_manager = None
    output_processor = SimpleNamespace(
        external_req_ids={}, request_states={}, get_num_unfinished_requests=lambda: 0
    )

    def __init__(self, max_model_len: int, max_num_seqs: int) -> None:
        self._tokenizer = byte_level()
        self.model_config = SimpleNamespace(
            max_model_len=max_model_len, get_vocab_size=lambda: len(self._tokenizer)
        )
        scheduler = SimpleNamespace(max_num_seqs=max_num_seqs, max_num_batched_tokens=2048)
        self.vllm_config = SimpleNamespace(scheduler_config=scheduler)
        self.renderer = SimpleNamespace(render_messages_async=None, get_tokenizer=self.get_tokenizer)
        self._is_sleeping = False

    def get_tokenizer(self) -> Any:
        return self._tokenizer

    async def generate(
        self, prompt: Any, params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]:
        assert not self._is_sleeping
        sample = SimpleNamespace(
            index=0, text=gpu_of_this_process(), token_ids=[7], finish_reason="stop", stop_reason=None
        )
        yield SimpleNamespace(
            prompt_token_ids=prompt["prompt_token_ids"], prompt_logprobs=None, outputs=[sample]
        )

    async def abort(self, request_ids: Any) -> None:
        """Do nothing: a generator stops when it is closed."""

    async def pause_generation(self, mode: str, clear_cache: bool) -> None:
        """Do nothing: every generation ends at once."""

    async def sleep(self, level: int, mode: str) -> None:
        self._is_sleeping = True

    async def wake_up(self) -> None:
        self._is_sleeping = False

    async def is_sleeping(self) -> bool:
        return self._is_sleeping


class StandInEngine:
    """An engine for Ray LLM's server, with what a replica takes from Ray's VLLMEngine."""

    _oai_serving_chat = SimpleNamespace(parser_cls=None)
    _oai_serving_completion = None

    def __init__(self, llm_config: LLMConfig) -> None:
        self._llm_config = llm_config

    async def start(self) -> None:
        arguments = self._llm_config.get_engine_config().get_initialization_kwargs()
        assert self._llm_config.get_or_create_callback().ctx.placement_group is not None
        self._engine_client = StandInClient(arguments["max_model_len"], arguments["max_num_seqs"])

    def routing_stats(self) -> dict[str, Any]:
        return {}

    async def shutdown(self) -> None:
        """Do nothing: there is no process to stop."""


def build_core(args: Document) -> Application:
    """Build the application as `serve_app.app.build_app` does, with stand-ins for training runs."""
    return build_application(args, start_stand_in)


def build_base_model(args: Document) -> Application:
    """Build the application as `serve_app.app.build_base_model` does, with a stand-in for the engine."""
    return build_model_server(args, StandInEngine)


class GpuApplication:
    """A Ray with four logical GPUs, on which one configuration after the other is deployed."""

    def __init__(self, port: int, storage: StorageSettings) -> None:
        self._port = port
        self._store = ObjectStore(storage)
        self.url = f"http://127.0.0.1:{port}"

    def deploy(self, config: str) -> None:
        """Submit a configuration as `serve deploy` does. The application replaces the one before it."""
        from ray.serve.schema import ServeDeploySchema

        rendered = serve_config(read_document(config))
        for application in rendered["applications"]:
            is_core = application["import_path"] == CORE_IMPORT_PATH
            application["import_path"] = f"{__name__}:{'build_core' if is_core else 'build_base_model'}"
        deploy_applications(ServeDeploySchema.model_validate(rendered))

    def readiness(self) -> tuple[bool, str]:
        """Returns True if the application is ready, and the answer of `/readyz`."""
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False)
        except httpx.HTTPError as error:
            return False, repr(error)
        return answer.is_success, answer.text

    def account(self) -> Account:
        user = f"user-{secrets.token_hex(4)}"
        key = ApiKeys(self._store).create(user, "test")
        headers = {"Authorization": f"Bearer {key}"}
        return Account(
            user, key, httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)
        )


@contextmanager
def running_gpus(root: Path) -> Iterator[GpuApplication]:
    """Start Ray, Serve and an object store in `root`; deploy nothing yet."""
    objects = ObjectServer(root / "objects", free_port())
    http = HttpSettings(port=free_port())
    storage = StorageSettings(endpoint_url=objects.endpoint_url, bucket=BUCKET)
    with (
        pytest.MonkeyPatch.context() as environment,
        tempfile.TemporaryDirectory(prefix="tiger-", dir="/tmp", ignore_cleanup_errors=True) as directory,
    ):
        for name in [name for name in os.environ if name.startswith(("AWS_", "RAY_", "TIGER_"))]:
            environment.delenv(name)
        own = haproxy.environment(Path(directory) / "h")
        own |= haproxy.front_door_environment(http, IngressSettings().max_request_bytes)
        own |= {name: str(free_port()) for name in haproxy.PORT_VARIABLES}
        own["AWS_SHARED_CREDENTIALS_FILE"] = str(objects.credentials_path)
        own["RAY_AUTH_MODE"] = "disabled"
        own["TIGER_STORAGE__ENDPOINT_URL"] = objects.endpoint_url
        own["TIGER_STORAGE__BUCKET"] = BUCKET
        own["TIGER_INGRESS__NUM_CPUS"] = "0"
        for name, value in own.items():
            environment.setenv(name, value)
        process = objects.start()
        try:
            ray.init(
                address="local",
                num_cpus=16,
                num_gpus=NUM_GPUS,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=128 * 2**20,
                _temp_dir=directory,
            )
            serve.start(http_options={"host": haproxy.SERVE_HOST, "port": http.port})
            yield GpuApplication(http.port, storage)
        finally:
            serve.shutdown()
            ray.shutdown()
            stop(process.pid)
            process.wait()

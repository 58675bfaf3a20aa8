"""The application over real HTTP: Serve, Ingress, Catalog, Trainer and object store are real; no vLLM starts.

A small fake takes the place of the model server, and the test acts as the training worker.
"""

import asyncio
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import httpx
import pytest
import ray
from ray import serve
from ray.exceptions import RayActorError

from registry.deployment_calls import DeploymentCalls
from registry.errors import ContextLengthExceeded, InvalidRequest
from registry.keys import ApiKeys
from registry.meter import Meter
from registry.records import Group, utc_now
from registry.revisions import Revisions
from registry.settings import StorageSettings
from registry.store import ObjectStore
from registry.usage import UsageParts, durations
from serve_app.application import build_application
from serve_app.deployment_options import APPLICATION, TRAINER, model_server_name
from serve_app.http_settings import HttpSettings
from serve_app.instance import haproxy
from serve_app.instance.seaweedfs import ObjectServer, stop
from serve_app.model_server.admission import Admission
from serve_app.model_server.calls import Completion, Generation, GenerationCall, OpenAICall
from serve_app.model_server.client import ModelReplica
from serve_app.model_server.tenant_engine import TenantEngine
from serve_app.replica_address import listen_at_the_node
from serve_app.settings import (
    BaseModelSettings,
    IngressSettings,
    LimitSettings,
    Settings,
    UsageSettings,
)
from tests.support.storage import free_port
from training.types import Assignment, Controller, Standing, StepProgress
from training.worker.loop import RunConfiguration

MAX_REQUEST_BYTES = IngressSettings().max_request_bytes
PAGE = "https://page.example.com"
"""The origin of pages that may use the API in a browser."""
BODY_TIMEOUT_S = 20
HELLO = [{"role": "user", "content": "Hello"}]
RESPONSES = [{"content": "good", "reward": 1.0}, {"content": "bad", "reward": 0.0}]


class FakeEngine:
    """An engine that returns tokens as vLLM does, for the first sample.

    A final output has four tokens, and any other output one.
    """

    errored = False
    output_processor = SimpleNamespace(external_req_ids={}, request_states={})

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s

    async def generate(
        self, prompt: Any, params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]:
        is_final = params.output_kind.name == "FINAL_ONLY"
        for _ in range(1 if is_final else params.max_tokens):
            sample = SimpleNamespace(index=0, token_ids=[7] * (4 if is_final else 1), finish_reason=None)
            yield SimpleNamespace(
                prompt_token_ids=prompt["prompt_token_ids"], prompt_logprobs=None, outputs=[sample]
            )
            if params.max_tokens > 1:
                await asyncio.sleep(self._pause_s)

    async def abort(self, request_ids: list[str]) -> None:
        """Do nothing: a generator stops when it is closed."""


@final
class FakeModelServer(ModelReplica):
    """A fake without vLLM. Files in `signals` give orders and record its calls."""

    def __init__(self, base_model: str, signals: Path, settings: Settings) -> None:
        listen_at_the_node()
        limits = settings.limits
        self._admission = Admission(
            16, limits.max_concurrent_generations_per_user, limits.max_queued_tokens_per_user, 512, 1.0
        )
        self._meter = Meter(UsageParts(ObjectStore(settings.storage)), settings.usage.flush_interval_s)
        self._meter.start()
        self._signals = signals
        self._base_model = base_model
        while self._is_down():
            time.sleep(0.05)

    async def check_health(self) -> None:
        if self._is_down():
            raise RuntimeError("down")

    async def __del__(self) -> None:
        await self._meter.close()

    async def _outputs(
        self, call: GenerationCall, kind: str, max_tokens: int, pause_s: float = 0.02
    ) -> AsyncGenerator[Any, None]:
        params = SimpleNamespace(n=call.n, max_tokens=max_tokens, output_kind=SimpleNamespace(name=kind))
        engine = FakeEngine(pause_s)
        async with TenantEngine(
            engine, call.user, call.model, self._admission, self._meter, 1, call.n
        ) as tenant_engine:
            async for output in tenant_engine.generate({"prompt_token_ids": [1, 2, 3]}, params, "request"):
                yield output

    async def generate(self, call: GenerationCall) -> Generation:
        if call.messages[-1].content == "break":
            raise RuntimeError("secret of the replica")
        async for _ in self._outputs(call, "FINAL_ONLY", 4):
            pass
        return Generation(
            completions=(
                Completion(content=call.model_dump_json(), stop_reason="end_turn", output_tokens=4 // call.n),
            )
            * call.n,
            input_tokens=3,
            output_tokens=4,
            duration_s=0.25,
        )

    async def generate_stream(self, call: GenerationCall) -> AsyncIterator[str]:
        what = call.messages[-1].content
        if what == "too long":
            raise ContextLengthExceeded("too long", "messages")
        num_tokens = 10**4 if what.startswith("endless") else 1
        outputs = self._outputs(call, "DELTA", num_tokens, 0.02 if what == "endless" else 0.5)
        try:
            async with aclosing(outputs):
                async for _ in outputs:
                    yield _line(type="delta", delta="Hi ")
            if what == "break":
                raise RuntimeError("secret of the replica")
            usage = {"input_tokens": 3, "output_tokens": 1, **durations(0.1)}
            yield _line(
                type="stop",
                id=call.id,
                stop_reason="end_turn",
                model=call.model,
                revision=call.revision,
                usage=usage,
            )
        finally:
            (self._signals / f"ended {call.seed}").touch()

    async def openai_answer(self, call: OpenAICall) -> str:
        return json.dumps(_openai_object(call, "message" if call.kind == "chat" else "text"))

    async def openai_events(self, call: OpenAICall) -> AsyncIterator[str]:
        is_endless = call.body.get("messages", [{}])[-1].get("content") == "endless"
        for _ in range(10**4 if is_endless else 1):
            yield f"data: {json.dumps(_openai_object(call, 'delta' if call.kind == 'chat' else 'text'))}\n\n"
            await asyncio.sleep(0.02 if is_endless else 0)
        yield "data: [DONE]\n\n"

    async def check_lengths(
        self, user: str, groups: Sequence[Group], max_tokens: int, is_single: bool
    ) -> int:
        """Check lengths: a character is a token, and a response may have a thousand."""
        lengths = [len(response.content) for group in groups for response in group.responses]
        if max(lengths) > 1000:
            raise ContextLengthExceeded("too long", "responses.0.content")
        if sum(lengths) > max_tokens:
            message = f"the responses have {sum(lengths)} tokens; one training takes at most {max_tokens}"
            raise InvalidRequest(message, "responses" if is_single else "groups")
        return sum(lengths)

    async def preload(self, adapter_id: str) -> None:
        (self._signals / f"preloaded {adapter_id}").touch()

    async def unload(self, uid: str) -> None:
        (self._signals / f"unloaded {uid}").touch()

    async def lend_gpu(self) -> None:
        (self._signals / f"lent {self._base_model}").touch()

    async def take_back_gpu(self) -> None:
        (self._signals / f"lent {self._base_model}").unlink(missing_ok=True)

    def _is_down(self) -> bool:
        return (self._signals / f"down {self._base_model}").exists()


def _openai_object(call: OpenAICall, text_field: str) -> dict[str, Any]:
    text: Any = "Hi" if call.kind == "text" else {"role": "assistant", "content": "Hi"}
    name = {"message": "chat.completion", "delta": "chat.completion.chunk", "text": "text_completion"}
    return {
        "id": "cmpl-1",
        "object": name[text_field],
        "created": 1738499698,
        "model": call.answering,
        "choices": [
            {"index": index, "finish_reason": "stop", "logprobs": None, text_field: text}
            for index in range(call.body.get("n") or 1)
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }


def _line(**chunk: Any) -> str:
    return json.dumps(chunk) + "\n"


def deployment_of(server: type[ModelReplica], base_model: str) -> serve.Deployment:
    return serve.deployment(
        server,
        name=model_server_name(base_model),
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=0.5,
        max_ongoing_requests=1000,
    )


def start_no_run(configuration: RunConfiguration, on_end: Callable[[], None]) -> None:
    """Start nothing: the test acts as the worker."""


def base_model(base_id: str, name: str) -> BaseModelSettings:
    return BaseModelSettings(
        id=base_id, name=name, description=f"{name}.", last_modified=utc_now(), source="/nowhere",
        max_context_tokens=64, rank=8, max_rank=16,
    )  # fmt: skip


class Service:
    """The running application, with access to its HTTP API and to its bucket."""

    def __init__(
        self, url: str, settings: Settings, signals: Path, logs: Path, object_server: ObjectServer
    ) -> None:
        self.url = url
        self.settings = settings
        self.signals = signals
        self.logs = logs
        self.object_server = object_server
        self.object_process = object_server.start()
        self.store = ObjectStore(settings.storage)

    def user(self) -> "Account":
        user = f"user-{secrets.token_hex(4)}"
        return self.account(user, ApiKeys(self.store).create(user, "test"))

    def account(self, user: str, key: str) -> "Account":
        client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=40,
            trust_env=False,
            event_hooks={"response": [assert_one_request_id]},
        )
        return Account(user, key, client)

    def work(self, base_id: str, directory: Path) -> Assignment:
        """Act as the worker for the next job of a base model."""
        assignment = assigned(base_id)
        self.train(base_id, assignment, directory)
        return assignment

    @contextmanager
    def working(self, directory: Path) -> Iterator[None]:
        """Let workers of all base models train the accepted jobs during the block."""
        base_ids = [model.id for model in self.settings.models]
        is_over = threading.Event()
        with ThreadPoolExecutor(len(base_ids)) as pool:
            workers = [pool.submit(self._work_on, base_id, directory, is_over) for base_id in base_ids]
            try:
                yield
            finally:
                is_over.set()
                for base_id in base_ids:  # a worker that waits for work is sent away
                    controller().call(Controller.enter, base_id).result(timeout_s=30)
            for worker in workers:
                worker.result(timeout=60)

    def _work_on(self, base_id: str, directory: Path, is_over: threading.Event) -> None:
        calls = controller()
        own_directory = directory / base_id
        own_directory.mkdir()
        worker = calls.call(Controller.enter, base_id).result(timeout_s=30)
        while not is_over.is_set():
            answer = calls.call(Controller.next_assignment, base_id, worker).result(timeout_s=60)
            if isinstance(answer, Assignment):
                self.train(base_id, answer, own_directory)

    def train(self, base_id: str, assignment: Assignment, directory: Path) -> None:
        """Make one step, unless the job was cancelled, and publish the new revision."""
        calls = controller()
        step = StepProgress(
            step=1, steps=5, loss=0.5, kl=0, clip_ratio=0, grad_norm=1, reward_mean=0.5, reward_std=0.5,
            learning_rate=1e-5, seconds=0.1,
        )  # fmt: skip
        attempt = (assignment.job_id, assignment.attempt)
        if calls.call(Controller.progress, *attempt, step).result(timeout_s=30) is Standing.IS_CANCELLED:
            calls.call(Controller.stopped, *attempt).result(timeout_s=30)
            return
        (directory / "adapter_config.json").write_text("{}")
        (directory / "adapter_model.safetensors").write_bytes(assignment.job_id.encode())
        Revisions(self.store).publish(
            assignment.uid,
            directory,
            revision=assignment.revision,
            parent_revision=assignment.parent_revision,
            job=assignment.job_id,
            base_model=base_id,
            metrics={"loss": 0.5, "trained_tokens": 40, "duration_s": 1.5},
        )
        calls.call(Controller.complete, *attempt).result(timeout_s=30)


def controller() -> DeploymentCalls[Controller]:
    """The calls of a training worker to the running Trainer."""
    return DeploymentCalls(serve.get_deployment_handle(TRAINER, APPLICATION))


def report_failure(assignment: Assignment) -> None:
    """Report, as a training worker, that the training of this assignment failed."""
    report = (assignment.job_id, assignment.attempt, "training_failed", "no luck")
    controller().call(Controller.fail, *report).result(timeout_s=30)


def assigned(base_id: str) -> Assignment:
    """The assignment of a training worker that has just begun. If the Trainer dies, it asks the next one."""
    calls = controller()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            worker = calls.call(Controller.enter, base_id).result(timeout_s=30)
            answer = calls.call(Controller.next_assignment, base_id, worker).result(timeout_s=30)
        except RayActorError:  # it asks the next Trainer, as a real worker does
            time.sleep(0.1)
            continue
        if isinstance(answer, Assignment):
            return answer
    raise AssertionError("no job came in time")


@dataclass
class Account:
    user: str
    key: str
    http: httpx.Client

    def create(self, name: str = "Mine", parent: str = "one", **more: Any) -> dict[str, Any]:
        body = {"name": name, "description": "", "parent_model": parent, **more}
        response = self.http.post("/v1/models", json=body)
        assert response.status_code == 201, response.text
        return response.json()

    def generate(self, **body: Any) -> httpx.Response:
        return self.http.post("/v1/generate_response", json={"messages": HELLO, **body})

    def train(self, model: str = "mine", **body: Any) -> httpx.Response:
        group = {} if "groups" in body else {"messages": HELLO, "responses": RESPONSES}
        return self.http.post("/v1/train", json={"model": model, **group, **body})


def assert_one_request_id(response: httpx.Response) -> None:
    assert len(response.headers.get_list("x-request-id", split_commas=True)) == 1


def assert_error(response: httpx.Response, status: int, code: str, param: str | None = None) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert_one_request_id(response)
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"type", "code", "message", "param"}
    assert (body["error"]["code"], body["error"]["param"]) == (code, param)
    assert body["error"]["message"]
    assert ("retry-after" in response.headers) == (status in (429, 503))
    assert ("www-authenticate" in response.headers) == (status == 401)


def chunks_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The chunks of a stream, which must end in exactly one `stop` or `error`."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/x-ndjson")
    chunks = [json.loads(line) for line in response.text.splitlines()]
    assert [chunk["type"] in ("stop", "error") for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return chunks


def wait_until(condition: Callable[[], bool], timeout_s: float) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout_s, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - start


@contextmanager
def running_service(root: Path, limits: LimitSettings, num_ingresses: int = 1) -> Iterator[Service]:
    """Start the application in `root`, with an object store and a Ray of its own."""
    (root / "signals").mkdir()
    object_server = ObjectServer(root / "objects", free_port())
    settings = Settings(
        http=HttpSettings(port=free_port()),
        storage=StorageSettings(endpoint_url=object_server.endpoint_url, bucket="tests"),
        ingress=IngressSettings(
            num_replicas=num_ingresses,
            allowed_origins=(PAGE,),
            num_cpus=0,
            max_request_bytes=MAX_REQUEST_BYTES,
            body_timeout_s=BODY_TIMEOUT_S,
        ),
        limits=limits,
        usage=UsageSettings(flush_interval_s=0.2),
        default_model="one",
        models=(base_model("two", "Two"), base_model("one", "One")),
    )
    # The paths of sockets below the directory may have at most 107 characters.
    with (
        pytest.MonkeyPatch.context() as environment,
        tempfile.TemporaryDirectory(prefix="tiger-", dir="/tmp", ignore_cleanup_errors=True) as ray_directory,
    ):
        for name in [name for name in os.environ if name.startswith(("AWS_", "RAY_", "TIGER_"))]:
            environment.delenv(name)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(object_server.credentials_path))
        environment.setenv("RAY_AUTH_MODE", "disabled")
        own = haproxy.environment(Path(ray_directory) / "h")
        own |= haproxy.front_door_environment(settings.http, MAX_REQUEST_BYTES)
        for name, value in own.items():
            environment.setenv(name, value)
        for name in haproxy.PORT_VARIABLES:
            environment.setenv(name, str(free_port()))
        url, logs = f"http://127.0.0.1:{settings.http.port}", Path(ray_directory) / "session_latest" / "logs"
        service = Service(url, settings, root / "signals", logs, object_server)
        try:
            ray.init(
                address="local",
                num_cpus=8,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=128 * 2**20,
                _temp_dir=ray_directory,
                _system_config={"metrics_report_interval_ms": 1000},
            )
            serve.start(http_options={"host": haproxy.SERVE_HOST, "port": settings.http.port})
            servers = {
                model.id: deployment_of(FakeModelServer, model.id).bind(model.id, service.signals, settings)
                for model in settings.models
            }
            application = build_application(settings, servers, start_no_run)
            serve.run(application, name=APPLICATION, route_prefix="/")
            yield service
        finally:
            serve.shutdown()
            ray.shutdown()
            stop(service.object_process.pid)
            service.object_process.wait()


def train_once(service: Service, account: Account, directory: Path, model: str = "mine") -> dict[str, Any]:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(account.train, model)
        service.work("one", directory)
        response = answer.result(timeout=30)
    assert response.status_code == 200, response.text
    return response.json()

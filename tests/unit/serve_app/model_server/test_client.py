"""The replicas that a call reaches, as Serve is told, with a fake handle."""

from typing import Any

from ray.serve.exceptions import DeploymentUnavailableError

from serve_app.model_server.calls import OpenAICall
from serve_app.model_server.client import ModelClient
from tests.support.ray_private import DeploymentID


class Handle:
    """A handle that keeps the options of each call, and whose replicas answer with nothing."""

    def __init__(self, told: list[dict[str, Any]], **options: Any) -> None:
        self.told = told
        self._options = options

    def options(self, **options: Any) -> "Handle":
        return Handle(self.told, **self._options, **options)

    @property
    def openai_events(self) -> "Handle":
        return self

    def remote(self, call: OpenAICall) -> None:
        self.told.append(self._options)


def call(adapter_id: str | None) -> OpenAICall:
    return OpenAICall(kind="text", user="alice", model="mine", revision=1, adapter_id=adapter_id, body={})


def test_a_call_prefers_replicas_that_have_its_adapter() -> None:
    handle: Any = Handle([])
    client = ModelClient(handle)
    client.openai_events(call("uid@1"))
    client.openai_events(call(None))
    assert handle.told == [{"multiplexed_model_id": "uid@1", "stream": True}, {"stream": True}]


class Absent:
    """A handle of a deployment that has no replica, as a base model that is asleep."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def broadcast(self, method: str, *args: Any) -> "Absent":
        self.told.append(method)
        return self

    async def results_async(self, **options: Any) -> list[Any]:
        raise DeploymentUnavailableError(DeploymentID(name="ModelServer:one", app_name="base-model-one"))


async def test_adapters_of_a_base_model_without_replicas_need_nothing() -> None:
    """A new revision is loaded by the first request, and a deleted model is nowhere loaded."""
    handle: Any = Absent()
    await ModelClient(handle).preload("uid@1")
    await ModelClient(handle).unload("uid")
    assert handle.told == ["preload", "unload"]

"""The replicas that a call reaches, as Serve is told, with a fake handle."""

from typing import Any

from serve_app.model_server.calls import OpenAICall
from serve_app.model_server.client import ModelClient


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

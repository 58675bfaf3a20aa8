"""A user of the running application, with their key, and checks of the answers that they get."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

HELLO = [{"role": "user", "content": "Hello"}]
ENDLESS = [{"role": "user", "content": "endless"}]
"""A conversation whose answer, as a stream, has no end."""
RESPONSES = [{"content": "good", "reward": 1.0}, {"content": "bad", "reward": 0.0}]


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

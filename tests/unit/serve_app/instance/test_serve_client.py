"""The answers of a Ray dashboard, as its REST API gives them, in the words of this program."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from serve_app.instance.dashboard import Dashboard
from serve_app.instance.processes import InstanceError
from serve_app.instance.serve_client import ServeClient

TOKEN = "token-of-the-cluster"
ASKED = {"name": "tiger", "import_path": "x:y"}
SERVE: dict[str, Any] = {
    "http_options": {"host": "0.0.0.0", "port": 45678},
    "applications": {
        "tiger": {
            "status": "RUNNING",
            "message": "",
            "deployed_app_config": ASKED,
            "deployments": {
                "Ingress": {
                    "name": "Ingress",
                    "status": "HEALTHY",
                    "message": "",
                    "target_num_replicas": 2,
                    "replicas": [{"state": "RUNNING"}, {"state": "STARTING"}],
                }
            },
        },
        "base-model-two": {
            "status": "RUNNING",
            "message": "",
            "deployed_app_config": None,
            "deployments": {
                name: {
                    "name": name,
                    "status": "HEALTHY",
                    "message": "",
                    "target_num_replicas": 0,
                    "replicas": [],
                }
                for name in ("ModelServer:two", "NoIngress")
            },
        },
        "of-a-program": {"status": "RUNNING", "message": "", "deployed_app_config": None, "deployments": {}},
    },
}
NODES = [
    {"state": "ALIVE", "resources_total": {"CPU": 8.0}},
    {"state": "ALIVE", "resources_total": {"CPU": 4.0, "GPU": 1.0}},
    {"state": "DEAD", "resources_total": {"CPU": 64.0}},
]


class FakeDashboard(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body: Any = SERVE
        if self.path.startswith("/api/v0/nodes"):
            body = {"result": True, "data": {"result": {"total": len(NODES), "result": NODES}}}
        self._answer(200 if self.headers["Authorization"] == f"Bearer {TOKEN}" else 401, body)

    def do_PUT(self) -> None:
        self._answer(400, "one field is wrong")

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), FakeDashboard) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def client(url: str, token: str | None = TOKEN) -> ServeClient:
    return ServeClient(Dashboard(url=url, token=token, is_of_this_machine=True))


def test_state_has_every_application_with_its_submitted_config(url: str) -> None:
    state = client(url).state()
    assert state.http_options["port"] == 45678
    assert {name: each.config for name, each in state.applications.items()} == {
        "tiger": ASKED,
        "base-model-two": {},
        "of-a-program": {},
    }
    assert state.application("tiger").as_line() == "Ingress 1/2"
    assert state.as_line() == "Ingress 1/2, ModelServer:two asleep, of-a-program running"
    assert state.application("not-there").status == "NOT_STARTED"


def test_resources_are_those_of_living_nodes(url: str) -> None:
    assert client(url).resources() == {"CPU": 12.0, "GPU": 1.0}


@pytest.mark.parametrize("token", ["wrong", None])
def test_refused_token_is_told_with_its_variables(url: str, token: str | None) -> None:
    with pytest.raises(InstanceError, match="RAY_AUTH_TOKEN") as caught:
        client(url, token).state()
    assert "wrong" not in str(caught.value)


def test_refused_config_has_the_message_of_serve(url: str) -> None:
    with pytest.raises(InstanceError, match=r"400.*one field is wrong"):
        client(url).deploy({})

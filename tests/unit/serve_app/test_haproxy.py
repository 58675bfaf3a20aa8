"""What is changed in the files that Ray writes for HAProxy; tests/serve has HAProxy itself."""

import json
import re
from pathlib import Path

import yaml

from registry.errors import Unavailable
from serve_app.errors import RETRY_AFTER_S, body_of
from serve_app.haproxy import DATA_PATH, mend, unavailable
from serve_app.serve_client import CLUSTER_DIRECTORY

CONFIG = """defaults
    option abortonclose
    option splice-request
    option splice-response
    errorfile 502 {errors}
    errorfile 503 {errors}
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind 127.0.0.1:45678
backend one
    server replica 127.0.0.1:30000 check
listen stats
  bind *:8404
"""


def test_metrics_are_served_where_the_api_is_and_errors_are_ours(tmp_path: Path) -> None:
    errors, path = tmp_path / "500.http", tmp_path / "haproxy.cfg"
    path.write_text(CONFIG.format(errors=errors))
    mend(path)
    text = CONFIG.format(errors=errors).replace("bind :9101", "bind 127.0.0.1:9101")
    text = text.replace("bind *:8404", "bind 127.0.0.1:8404")
    assert path.read_text() == re.sub("    option splice.*\n", "", text)
    assert errors.read_bytes() == unavailable()


def test_error_of_haproxy_is_like_ours() -> None:
    head, body = unavailable().split(b"\r\n\r\n")
    error = json.loads(body)
    assert error == body_of(Unavailable(error["error"]["message"]))
    assert f"Retry-After: {RETRY_AFTER_S}".encode() in head
    assert f"Content-Length: {len(body)}".encode() in head


def test_a_cluster_has_the_same_data_path() -> None:
    manifest = yaml.safe_load((CLUSTER_DIRECTORY / "rayservice.yaml").read_text())
    group = manifest["spec"]["rayClusterConfig"]["headGroupSpec"]
    (container,) = group["template"]["spec"]["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert DATA_PATH.items() <= variables.items()

"""The variables that Ray needs on the nodes of a cluster."""

import shlex
from typing import Any

import pytest
import yaml

from cluster.check_manifest import MANIFEST
from serve_app.instance.haproxy import BINARY_VARIABLE
from serve_app.instance.node_environment import exports, node_environment
from serve_app.settings import Settings, load_settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TIGER_HTTP__MAX_CONNECTIONS", "123")
    return load_settings("gpu")


def test_limits_of_haproxy_are_in_the_environment_and_its_address_is_not(settings: Settings) -> None:
    found = node_environment(settings)
    assert found["TIGER_HTTP__MAX_CONNECTIONS"] == "123"
    assert "TIGER_INGRESS__MAX_REQUEST_BYTES" in found
    assert not {"TIGER_HTTP__HOST", "TIGER_HTTP__PORT"} & found.keys()


def test_variables_are_commands_of_a_shell(settings: Settings) -> None:
    words = [shlex.split(line) for line in exports(settings).splitlines()]
    assert all(word == "export" for word, _ in words)
    assert dict(pair.split("=", 1) for _, pair in words) == node_environment(settings)


def test_nodes_of_kubernetes_have_the_same_variables(settings: Settings) -> None:
    """The path of HAProxy is that of the image, and KubeRay sets the mode of the token."""
    head = yaml.safe_load(MANIFEST.read_text())["spec"]["rayClusterConfig"]["headGroupSpec"]
    (container,) = head["template"]["spec"]["containers"]
    variables: dict[str, Any] = {each["name"]: each for each in container["env"]}
    own = node_environment(settings)
    ray = {name for name in own if name.startswith("RAY_")} - {"RAY_AUTH_MODE", BINARY_VARIABLE}
    assert {name: variables[name]["value"] for name in ray} == {name: own[name] for name in ray}

"""The Serve config of a cluster and that of an instance."""

from typing import Any

import pytest
import yaml

from serve_app.instance.processes import InstanceError
from serve_app.instance.rendered_config import as_yaml, cluster_config, instance_config
from serve_app.settings import read_document

BESIDE = {"name": "another", "import_path": "x:y"}


@pytest.fixture
def document() -> dict[str, Any]:
    return read_document("gpu")


def test_nodes_of_a_cluster_can_reach_each_other(document: dict[str, Any]) -> None:
    assert cluster_config(document, {})["http_options"] == {"host": "0.0.0.0", "port": 45678}


def test_address_that_the_operator_chose_is_kept(document: dict[str, Any]) -> None:
    chosen = document | {"http": {"host": "127.0.0.1"}}
    assert cluster_config(chosen, {})["http_options"]["host"] == "127.0.0.1"
    assert cluster_config(read_document("local"), {})["http_options"]["host"] == "127.0.0.1"


def test_instance_has_its_own_port_and_applications_beside(document: dict[str, Any]) -> None:
    config = instance_config(document, 8000, [BESIDE])
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8000}
    assert [each["name"] for each in config["applications"]] == [
        *("tiger", "base-model-deepseek-r1-8b", "base-model-llama-3.1-8b", "another")
    ]


def test_file_for_serve_deploy_has_no_references_and_is_the_same_config(document: dict[str, Any]) -> None:
    config = cluster_config(document, {})
    text = as_yaml(config)
    assert yaml.safe_load(text) == config
    assert "&id" not in text


def test_wrong_setting_is_named(document: dict[str, Any]) -> None:
    with pytest.raises(InstanceError, match="max_learning_stepps"):
        cluster_config(document | {"limits": {"max_learning_stepps": 1}}, {})

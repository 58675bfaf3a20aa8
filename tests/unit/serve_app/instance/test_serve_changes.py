"""The changes between two settings files, in the words of an operator."""

from copy import deepcopy
from typing import Any

import pytest

from serve_app.instance.rendered_config import cluster_config
from serve_app.instance.serve_changes import Change, Cost, address_changes, changes_between

Document = dict[str, Any]


def base_model(name: str) -> Document:
    return {
        "id": name,
        "name": name.capitalize(),
        "description": "A base model.",
        "last_modified": "2024-11-01T00:00:00.000Z",
        "source": f"/weights/{name}",
        "max_context_tokens": 2048,
        "serving": {"accelerator": {"kind": "cpu"}},
    }


@pytest.fixture
def document() -> Document:
    return {
        "default_model": "one",
        "models": [base_model("one"), base_model("two")],
        "limits": {"max_requests_per_minute_per_user": 600},
    }


def configs(document: Document) -> Document:
    rendered = cluster_config(document, environment={})
    return {each["name"]: each for each in rendered["applications"]}


def changes(before: Document, after: Document) -> list[Change]:
    return changes_between(configs(before), configs(after))


def texts(before: Document, after: Document) -> list[str]:
    return [each.text for each in changes(before, after)]


def test_same_settings_have_no_changes(document: Document) -> None:
    assert changes(document, deepcopy(document)) == []


def test_limit_changes_without_a_restart(document: Document) -> None:
    """A limit is in the Serve config of each deployment. The operator sees it once."""
    after = deepcopy(document)
    after["limits"]["max_requests_per_minute_per_user"] = 900
    setting = "limits.max_requests_per_minute_per_user"
    assert texts(document, after) == [f"{setting}: 600 -> 900: takes effect without a restart"]


def test_value_that_is_left_out_is_the_default_and_null_is_not(document: Document) -> None:
    left_out, none = deepcopy(document), deepcopy(document)
    del left_out["limits"]
    none["limits"]["max_requests_per_minute_per_user"] = None
    assert "600 -> the default" in texts(document, left_out)[0]
    assert "600 -> null" in texts(document, none)[0]


def test_context_of_a_base_model_restarts_its_replicas_only(document: Document) -> None:
    after = deepcopy(document)
    after["models"][0]["max_context_tokens"] = 4096
    (change,) = changes(document, after)
    assert change.text == (
        "models[one].max_context_tokens: 2048 -> 4096: restarts the replicas of base model one"
    )
    assert change.is_disruptive and change.parts == ("base model one",)


def test_storage_restarts_everything(document: Document) -> None:
    after = deepcopy(document)
    after["storage"] = {"bucket": "other"}
    (change,) = changes(document, after)
    assert change.parts == ("Ingress, Catalog and Trainer", "base model one", "base model two")
    assert "storage.bucket: the default -> other" in change.text


@pytest.mark.parametrize(
    ("section", "values", "setting"),
    [
        ("ingress", {"num_replicas": 3}, "ingress.num_replicas: 1 -> 3"),
        ("ingress", {"body_timeout_s": 10}, "ingress.body_timeout_s: the default -> 10"),
    ],
)
def test_ingress_changes_in_place(document: Document, section: str, values: Document, setting: str) -> None:
    (change,) = changes(document, document | {section: values})
    assert change.text.startswith(setting) and change.cost is Cost.NONE


def test_cpus_of_the_ingress_restart_the_ingress(document: Document) -> None:
    (change,) = changes(document, document | {"ingress": {"num_cpus": 2}})
    assert change.text == "ingress.num_cpus: 1 -> 2: restarts the replicas of Ingress"


def test_replicas_of_a_base_model_come_without_a_restart(document: Document) -> None:
    after = deepcopy(document)
    after["models"][1]["serving"]["num_replicas"] = 2
    (change,) = changes(document, after)
    assert change.text.startswith("models[two].serving.num_replicas: 1 -> 2: takes effect without")


def test_bounds_of_replicas_are_told_once_and_in_the_words_of_the_settings(document: Document) -> None:
    """Serve builds an application again when autoscaling comes or goes. A change of its bounds is cheap."""
    after = deepcopy(document)
    after["ingress"] = {"autoscaling": {"max_replicas": 6}}
    after["models"][1]["serving"]["autoscaling"] = {"min_replicas": 0, "max_replicas": 2}
    told = texts(document, after)
    core = "restarts the replicas of Ingress, Catalog and Trainer"
    assert f"ingress.autoscaling.max_replicas: the default -> 6: {core}" in told
    bound = "models[two].serving.autoscaling.min_replicas"
    assert f"{bound}: the default -> 0: restarts the replicas of base model two" in told
    assert len(told) == len({text.partition(":")[0] for text in told})
    assert not any("policy" in text or "autoscaling_config" in text for text in told)
    more = deepcopy(after)
    more["models"][1]["serving"]["autoscaling"]["max_replicas"] = 3
    assert texts(after, more) == [
        "models[two].serving.autoscaling.max_replicas: 2 -> 3: takes effect without a restart"
    ]


def test_settings_of_a_training_say_what_becomes_of_trainings(document: Document) -> None:
    after = deepcopy(document)
    after["models"][1]["training"] = {"slice_s": 5}
    (change,) = changes(document, after)
    assert (
        change.text.startswith("models[two].training.slice_s: the default -> 5") and change.cost is Cost.RUN
    )


def test_size_of_a_body_needs_a_new_ray(document: Document) -> None:
    (change,) = changes(document, document | {"ingress": {"max_request_bytes": 4096}})
    assert change.cost is Cost.DOOR and "Ray starts anew" in change.text


def test_base_model_is_added_removed_and_replaced(document: Document) -> None:
    """The settings of a base model that comes or goes are not told one by one."""
    removed, replaced = deepcopy(document), deepcopy(document)
    del removed["models"][1]
    replaced["models"][1] = base_model("three")
    assert texts(removed, document) == ["base model two: is added"]
    removal = "base model two: is removed; its private models answer 503 until it is back"
    assert texts(document, removed) == [removal]
    assert changes(document, removed)[0].base_model == "two"
    assert texts(document, replaced) == ["base model three: is added", removal]


def test_order_of_the_list_is_a_change(document: Document) -> None:
    after = document | {"models": document["models"][::-1]}
    (change,) = changes(document, after)
    assert change.text.startswith("the order of models") and change.cost is Cost.NONE


def test_config_of_another_version_restarts_what_has_another_code(document: Document) -> None:
    """Earlier versions had one application, and gave it the name of a settings file."""
    old = {"tiger": {"name": "tiger", "import_path": "serve_app.app:build_app", "args": {"config": "gpu"}}}
    found = changes_between(old, configs(document))
    assert [each.text for each in found if each.cost is Cost.ADDED] == [
        "base model one: is added",
        "base model two: is added",
    ]
    assert any("config" in each.text and each.is_disruptive for each in found)


def test_long_values_are_cut(document: Document) -> None:
    after = deepcopy(document)
    after["models"][0]["description"] = "x" * 500
    (text,) = texts(document, after)
    assert len(text) < 200


def test_address_of_a_running_serve_does_not_change() -> None:
    deployed, asked = {"host": "0.0.0.0", "port": 1}, {"host": "0.0.0.0", "port": 2}
    (change,) = address_changes(deployed, asked)
    assert change.text.startswith("http.port: 1 -> 2: does not take effect")
    assert address_changes({}, asked) == []

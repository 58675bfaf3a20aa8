"""A settings file becomes a Serve config, in which a change concerns only what has to restart."""

import copy
import json
import os
import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from serve_app.deployed_settings import core_settings, new_or_former, served_settings
from serve_app.serve_config import serve_config
from serve_app.settings import CONFIG_DIRECTORY, Settings, build_settings, read_document
from serve_app.training_deployment import run_settings
from tests.support.documents import ROOT
from tests.unit.test_documents import settings_of

PROFILES = sorted(path.stem for path in CONFIG_DIRECTORY.glob("*.yaml"))
ROW = re.compile(r"^\| (?P<patterns>`[^|]*`) \| (?P<restarted>[^|]+) \|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
CHANGED: dict[str, Any] = {
    "http.host": "0.0.0.0",
    "storage.endpoint_url": "https://s3.example.com",
    "ingress.allowed_origins": ["https://page.example.com"],
    "limits.max_tokens_per_user_per_day": 1000,
    "limits.max_tokens_per_user_per_month": 1000,
    "limits.token_budgets_by_user": {"alice": {"max_tokens_per_day": 1000}},
    "weights_directory": "/weights",
    "model_paths": {"one": "/elsewhere"},
    "default_model": "two",
    "operators": ["alice"],
    "dashboard_url": "https://dashboard.example.com",
    "models[].last_modified": "2026-01-01T00:00:00.000Z",
    "models[].source": "/elsewhere",
    "models[].max_context_tokens": 65,
    "models[].serving.accelerator.kind": "gpu",
    "models[].serving.accelerator.type": "H100",
    "models[].serving.gpus_per_replica": 1,
    "models[].serving.engine": {"max_num_seqs": 3},
    "models[].serving.environment": {"OMP_NUM_THREADS": "3"},
    "models[].training.gpus_per_worker": 0.5,
    "models[].training.gpu_memory_utilization": 0.5,
    "models[].training.threads_per_worker": 3,
    "models[].training.dtype": "bfloat16",
}
"""Other values of the settings for which `other_value` finds none."""
SETTINGS = [name for name, _ in settings_of(Settings) if name != "models[].id"]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TIGER_")]:
        monkeypatch.delenv(name)


def base_model(base_id: str, source: str) -> dict[str, Any]:
    return {
        "id": base_id,
        "name": base_id.title(),
        "description": "",
        "last_modified": "2025-01-01T00:00:00.000Z",
        "source": source,
        "max_context_tokens": 64,
        "serving": {"accelerator": {"kind": "cpu"}},
    }


def document() -> dict[str, Any]:
    """A settings file. The weights of the first base model are converted from a package."""
    models = [base_model("one", "package:some_package/weights.gguf"), base_model("two", "/two")]
    return {"default_model": "one", "models": models}


def applications(of: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {application["name"]: application for application in serve_config(of)["applications"]}


def other_value(default: Any) -> Any:
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default - 1 if default > 1 else 2
    if isinstance(default, float):
        return default / 2
    return f"{default or 'smollm2'}-2" if isinstance(default, str) else "smollm2"


def with_changed(setting: str) -> dict[str, Any]:
    """The settings file with another value of one setting, in its first base model."""
    changed = document()
    default = dict(settings_of(Settings))[setting].default
    value = CHANGED[setting] if setting in CHANGED else other_value(default)
    *sections, name = setting.replace("models[]", "models").split(".")
    section: Any = changed
    for each in sections:
        section = section[each][0] if each == "models" else section.setdefault(each, {})
    assert section.get(name) != value
    section[name] = value
    return changed


def restarted_by(changed: dict[str, Any]) -> str:
    """The processes that a change of the settings file restarts, in the words of the table."""
    before, after = applications(document()), applications(changed)
    assert before.keys() == after.keys()
    restarted = {name for name in before if before[name]["args"] != after[name]["args"]}
    if restarted == before.keys():
        return "all replicas of all deployments"
    runs = [run_settings("one", build_settings(each)) for each in (document(), changed)]
    run = ["its training run"] if runs[0] != runs[1] else []
    if restarted or run:
        assert restarted <= {"base-model-one"}
        return " and ".join((["the replicas of this base model"] if restarted else []) + run)
    ingress = [each["tiger"]["deployments"][0]["ray_actor_options"] for each in (before, after)]
    if ingress[0] != ingress[1]:
        return "the ingress replicas"
    return "nothing" if before != after else "Ray"


def documented(setting: str) -> str:
    """The words of the table of the operator. The longest pattern that fits a setting counts."""
    text = (ROOT / "docs" / "operations.md").read_text()
    table = text.partition("### Which change restarts what")[2].partition("\n#")[0]
    rows = {
        pattern: row["restarted"] for row in ROW.finditer(table) for pattern in CODE.findall(row["patterns"])
    }
    fitting = [pattern for pattern in rows if fnmatchcase(setting, pattern.replace("[]", "[[]]"))]
    return rows[max(fitting, key=len)]


@pytest.mark.parametrize("setting", SETTINGS)
def test_change_restarts_what_the_table_says(setting: str) -> None:
    assert restarted_by(with_changed(setting)) == documented(setting)


@pytest.mark.parametrize("profile", PROFILES)
def test_config_is_one_that_serve_accepts(profile: str) -> None:
    config = serve_config(read_document(profile))
    assert json.loads(json.dumps(config)) == config
    accepted = ServeDeploySchema.model_validate(config)
    models = [model["id"] for model in read_document(profile)["models"]]
    assert [each.name for each in accepted.applications] == ["tiger", *(f"base-model-{id}" for id in models)]
    assert [each.route_prefix for each in accepted.applications] == ["/", *(None for _ in models)]


@pytest.mark.parametrize("profile", PROFILES)
def test_deployments_get_all_settings_of_the_file(profile: str) -> None:
    whole = build_settings(read_document(profile))
    core, *base_models = serve_config(read_document(profile))["applications"]
    for deployment in core["deployments"]:
        rebuilt = core_settings(core["args"], deployment["user_config"])
        assert rebuilt.model_dump(exclude={"http"}) == whole.model_dump(exclude={"http"})
    for application, model in zip(base_models, whole.models, strict=True):
        (deployment,) = application["deployments"]
        served = served_settings(application["args"], deployment["user_config"])
        assert (served.storage, served.limits, served.usage) == (whole.storage, whole.limits, whole.usage)
        assert deployment["num_replicas"] == model.serving.num_replicas
        assert served.base_model.training.share_gpu == model.training.share_gpu
        fields = set(type(served.base_model).model_fields) - {"training"}
        assert served.base_model.model_dump(include=fields) == model.model_dump(include=fields)


def test_base_models_come_and_go_without_a_change_of_the_others() -> None:
    before, more = applications(document()), document()
    more["models"].append(base_model("three", "/three"))
    after = applications(more)
    assert after.keys() - before.keys() == {"base-model-three"}
    assert all(before[name] == after[name] for name in ("base-model-one", "base-model-two"))
    assert before["tiger"]["args"] == after["tiger"]["args"]


def test_variables_of_the_nodes_are_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each deployment applies them on its node. Serve itself has to know the number of replicas."""
    before = serve_config(document())
    monkeypatch.setenv("TIGER_STORAGE__BUCKET", "of-the-nodes")
    monkeypatch.setenv("TIGER_LIMITS__MAX_MODELS_PER_USER", "7")
    assert serve_config(document()) == before
    core = before["applications"][0]
    settings = core_settings(core["args"], core["deployments"][0]["user_config"])
    assert (settings.storage.bucket, settings.limits.max_models_per_user) == ("of-the-nodes", 7)
    monkeypatch.setenv("TIGER_INGRESS__NUM_REPLICAS", "3")
    assert serve_config(document())["applications"][0]["deployments"][0]["num_replicas"] == 3


def test_number_of_replicas_is_left_to_serve_with_autoscaling() -> None:
    scaled = document()
    scaled["ingress"] = {"autoscaling": {"max_replicas": 6}}
    scaled["models"][0]["serving"]["autoscaling"] = {"min_replicas": 0, "cold_start_timeout_s": 60}
    config = serve_config(scaled)
    ServeDeploySchema.model_validate(config)
    core, one, two = config["applications"]
    ingress, replicas = core["deployments"][0], one["deployments"][0]
    assert "num_replicas" not in ingress and "num_replicas" not in replicas
    assert ingress["autoscaling_config"]["max_replicas"] == 6
    assert replicas["autoscaling_config"]["min_replicas"] == 0
    assert two["deployments"][0]["num_replicas"] == 1
    settings = core_settings(core["args"], ingress["user_config"])
    expected = build_settings(scaled).models[0].serving.autoscaling
    assert settings.base_model("one").serving.autoscaling == expected


def test_times_of_checks_and_of_an_end_are_options_of_serve() -> None:
    changed = document()
    changed["ingress"] = {"health_check_period_s": 3}
    changed["models"][0]["serving"] |= {"health_check_timeout_s": 7, "graceful_shutdown_timeout_s": 60}
    core, one, two = serve_config(changed)["applications"]
    assert core["deployments"][0]["health_check_period_s"] == 3
    replicas = one["deployments"][0]
    assert (replicas["health_check_timeout_s"], replicas["graceful_shutdown_timeout_s"]) == (7, 60)
    assert not {"health_check_timeout_s", "graceful_shutdown_timeout_s"} & two["deployments"][0].keys()


def test_variable_may_name_a_base_model_that_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = serve_config(document())
    monkeypatch.setenv("TIGER_MODEL_PATHS", '{"two": "/of-the-node", "removed": "/removed"}')
    core, _, two = config["applications"]
    settings = core_settings(core["args"], core["deployments"][0]["user_config"])
    assert settings.base_model("two").source == "/of-the-node"
    assert served_settings(two["args"], {}).base_model.source == "/of-the-node"


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "password", "SOME_API_KEY"])
def test_variable_that_is_probably_secret_is_refused_by_its_name(name: str) -> None:
    secret = document()
    secret["models"][1]["serving"]["environment"] = {name: "hunter2"}
    with pytest.raises(ValueError, match=f"two must not contain {name}") as refusal:
        serve_config(secret)
    assert "hunter2" not in str(refusal.value)


def test_token_for_the_engine_is_refused() -> None:
    secret = document()
    secret["models"][1]["serving"]["engine"] = {"hf_token": "hunter2"}
    with pytest.raises(ValueError, match="two must not contain hf_token") as refusal:
        serve_config(secret)
    assert "hunter2" not in str(refusal.value)
    secret["models"][1]["serving"]["engine"] = {"hf_token": True}  # vLLM takes it from the environment
    serve_config(secret)


def test_endpoint_with_a_password_is_refused() -> None:
    secret = document() | {"storage": {"endpoint_url": "https://user:hunter2@s3.example.com"}}
    with pytest.raises(ValueError, match=r"storage\.endpoint_url") as refusal:
        serve_config(secret)
    assert "hunter2" not in str(refusal.value)


def test_wrong_settings_are_refused_before_anything_is_deployed() -> None:
    wrong = copy.deepcopy(document())
    wrong["limits"] = {"max_modles_per_user": 3}
    with pytest.raises(ValidationError):
        serve_config(wrong)


def test_settings_that_are_invalid_on_a_node_leave_the_former_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise Serve would end the replica, and no other one could start."""
    core = serve_config(document())["applications"][0]
    user_config = core["deployments"][0]["user_config"]
    former = core_settings(core["args"], user_config)
    changed = user_config | {"default_model": "two"}
    assert new_or_former(core_settings, core["args"], changed, former).default_model == "two"
    monkeypatch.setenv("TIGER_LIMITS__MAX_ALPHA", "1")
    assert new_or_former(core_settings, core["args"], changed, former) is former

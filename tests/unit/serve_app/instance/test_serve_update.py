"""The submission of a Serve config, and the applications that are still missing."""

from typing import Any

import pytest

from serve_app.instance.serve_update import ServeUpdate
from tests.support.serve_states import FakeServe


def app(name: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "route_prefix": None, "import_path": "x:y", "args": args}


def light(name: str, limit: int) -> dict[str, Any]:
    return app(name) | {"deployments": [{"name": "D", "user_config": {"limit": limit}}]}


def config(*applications: dict[str, Any]) -> dict[str, Any]:
    return {"http_options": {"host": "127.0.0.1", "port": 1}, "applications": list(applications)}


@pytest.fixture
def lines() -> list[str]:
    return []


def test_everything_is_submitted_and_is_done_when_it_runs_as_asked() -> None:
    serve = FakeServe()
    update = ServeUpdate(serve, config(app("tiger"), app("base-model-x")))
    assert [each.text for each in update.changes()][1] == "base model x: is added"
    assert update.new_base_models() == {"x"}
    update.submit()
    assert update.missing(serve.state()) == [] and update.changes() == []


def test_application_that_runs_with_an_older_config_is_not_done() -> None:
    """Serve answers before it has applied a config."""
    serve = FakeServe()
    serve.deploy(config(app("tiger", bucket="old")))
    before = serve.state()
    update = ServeUpdate(serve, config(app("tiger", bucket="new")))
    update.submit()
    assert update.missing(before) == ["tiger"]


def test_application_that_still_leaves_is_not_done() -> None:
    serve = FakeServe()
    serve.deploy(config(app("tiger"), app("base-model-x")))
    before = serve.state()
    update = ServeUpdate(serve, config(app("tiger")))
    update.submit()
    assert update.missing(before) == ["base-model-x"]
    assert update.missing(serve.state()) == []


def test_application_that_failed_is_deleted_before_it_is_tried_with_the_same_arguments() -> None:
    serve = FakeServe(lambda name: "DEPLOY_FAILED" if name == "base-model-x" else "RUNNING")
    asked = config(app("tiger"), app("base-model-x"))
    serve.deploy(asked)
    update = ServeUpdate(serve, asked)
    assert update.new_base_models() == {"x"}
    assert [each.text for each in update.changes()] == [
        "base model x: could not be deployed before, and is deployed again"
    ]
    update.submit()
    assert [[each["name"] for each in sent["applications"]] for sent in serve.submitted[1:]] == [
        ["tiger"],
        ["tiger", "base-model-x"],
    ]


def test_application_that_failed_with_other_arguments_is_replaced_by_serve() -> None:
    serve = FakeServe(lambda name: "DEPLOY_FAILED")
    serve.deploy(config(app("tiger", bucket="wrong")))
    ServeUpdate(serve, config(app("tiger", bucket="right"))).submit()
    assert len(serve.submitted) == 2


def test_application_that_can_never_start_is_deleted_and_the_others_stay() -> None:
    serve = FakeServe()
    update = ServeUpdate(serve, config(app("tiger"), app("base-model-x")))
    update.submit()
    update.give_up("base-model-x")
    assert serve.names == ["tiger"]
    update.give_up("tiger")
    assert serve.num_deletions == 1, "a config without applications"


def test_up_applies_what_ends_no_replica_and_says_so(lines: list[str]) -> None:
    serve = FakeServe()
    serve.deploy(config(light("tiger", 1)))
    ServeUpdate(serve, config(light("tiger", 2))).submit_what_ends_nothing(lines.append)
    assert serve.submitted[-1] == config(light("tiger", 2))
    assert lines == [
        "change: limit: 1 -> 2: takes effect without a restart",
        "deployment: submitted",
    ]


def test_up_leaves_what_would_end_replicas_and_says_so(lines: list[str]) -> None:
    serve = FakeServe()
    serve.deploy(config(app("tiger"), app("base-model-x", source="a")))
    update = ServeUpdate(serve, config(app("tiger"), app("base-model-x", source="b")))
    update.submit_what_ends_nothing(lines.append)
    assert len(serve.submitted) == 1
    assert "source: a -> b" in lines[0] and "`tiger deploy` applies them" in lines[1]
    assert update.missing(serve.state()) == [], "it runs as it was submitted before"


def test_up_again_submits_nothing(lines: list[str]) -> None:
    serve = FakeServe()
    serve.deploy(config(app("tiger")))
    ServeUpdate(serve, config(app("tiger"))).submit_what_ends_nothing(lines.append)
    assert len(serve.submitted) == 1 and lines == ["deployment: submitted before"]

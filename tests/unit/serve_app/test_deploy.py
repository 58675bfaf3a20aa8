"""A deployment on a cluster, whose REST API a fake answers: what is said, asked, submitted and waited for."""

from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest

from registry.audit import Action, AuditLog
from registry.records import UserModels, utc_now
from registry.store import ObjectStore, StorageUnfit
from registry.user_models import UserModelStore
from serve_app.deploy import ClusterTarget, Deploy, Outcome
from serve_app.instance.processes import InstanceError
from serve_app.instance.rendered_config import cluster_config
from serve_app.settings import build_settings, read_document
from tests.support.model_records import model_record
from tests.support.serve_states import FakeServe

DEEPSEEK = "deepseek-r1-8b"


class Operator:
    """Somebody who deploys: what they are told, what they are asked, and what they answer."""

    def __init__(self, serve: FakeServe, store: ObjectStore) -> None:
        self.serve = serve
        self.store = store
        self.told: list[str] = []
        self.asked: list[str] = []

    def deploy(
        self, document: dict[str, Any], answer: bool | None = True, is_dry_run: bool = False
    ) -> Outcome | None:
        """Returns how it ended before the submission; None: it was submitted."""

        def ask(question: str) -> bool:
            self.asked.append(question)
            return bool(answer)

        target = ClusterTarget(self.serve, cluster_config(document, {}), "gpu", self.store, self.told.append)
        session = Deploy(target, build_settings(document), self.told.append, None if answer is None else ask)
        end = session.is_wanted(is_dry_run)
        if end is None:
            target.apply(self.told.append, timeout_s=0)
        return end


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.delenv("TIGER_MODEL_PATHS", raising=False)
    return read_document("gpu")


@pytest.fixture
def operator(store: ObjectStore) -> Operator:
    return Operator(FakeServe(), store)


@pytest.fixture
def running(operator: Operator, document: dict[str, Any]) -> Operator:
    """An operator whose cluster runs the document already."""
    assert operator.deploy(document) is None
    operator.told.clear()
    operator.serve.submitted.clear()
    return operator


class UnfitStore(ObjectStore):
    """A bucket whose endpoint does not know conditional writes."""

    def create(self, key: str, body: bytes) -> str:
        raise StorageUnfit("the endpoint does not implement PutObject as we use it")


def without(document: dict[str, Any], base_model: str) -> dict[str, Any]:
    models = [each for each in document["models"] if each["id"] != base_model]
    return document | {"models": models, "default_model": models[0]["id"]}


def test_first_deployment_asks_nothing(operator: Operator, document: dict[str, Any]) -> None:
    assert operator.deploy(document, answer=None) is None
    assert operator.serve.names == ["tiger", f"base-model-{DEEPSEEK}", "base-model-llama-3.1-8b"]
    assert f"base model {DEEPSEEK}: is added" in operator.told


def test_same_settings_submit_nothing(running: Operator, document: dict[str, Any]) -> None:
    assert running.deploy(document) is Outcome.DONE
    assert running.told == ["nothing changes"] and running.serve.submitted == []


def test_limit_is_applied_without_a_question(running: Operator, document: dict[str, Any]) -> None:
    after = document | {"limits": {"max_learning_steps": 10}}
    assert running.deploy(after, answer=None) is None
    assert running.told == ["limits.max_learning_steps: the default -> 10: takes effect without a restart"]
    assert len(running.serve.submitted) == 1


def test_dry_run_tells_the_changes_only(running: Operator, document: dict[str, Any]) -> None:
    assert running.deploy(without(document, DEEPSEEK), is_dry_run=True) is Outcome.DONE
    assert any("is removed" in line for line in running.told)
    assert running.asked == [] and running.serve.submitted == []


@pytest.mark.parametrize("answer", [False, None])
def test_replicas_end_only_if_somebody_says_so(
    running: Operator, document: dict[str, Any], answer: bool | None
) -> None:
    after = deepcopy(document)
    after["models"][0]["max_context_tokens"] = 8192
    assert running.deploy(after, answer) is Outcome.NOT_CONFIRMED
    assert running.serve.submitted == []
    assert bool(running.asked) is (answer is False)
    if running.asked:
        assert running.asked == [f"This ends replicas of base model {DEEPSEEK}. Go on?"]
    else:
        assert "--yes" in running.told[-1]


def test_removal_tells_how_many_private_models_it_concerns(
    running: Operator, document: dict[str, Any]
) -> None:
    records = [model_record(id=name, name=name, base_model=DEEPSEEK) for name in ("a", "b")]
    for user in ("alice", "bob"):
        UserModelStore(running.store).update(user, lambda _: UserModels(models=tuple(records)))
    assert running.deploy(without(document, DEEPSEEK)) is None
    assert f"base model {DEEPSEEK} has 4 private models" in running.told
    assert running.serve.names == ["tiger", "base-model-llama-3.1-8b"]


def test_too_few_resources_are_told_before_anything_is_submitted(
    store: ObjectStore, document: dict[str, Any]
) -> None:
    operator = Operator(FakeServe(resources={"CPU": 64, "GPU": 1}), store)
    operator.deploy(document, is_dry_run=True)
    assert operator.told[0].startswith("warning: the nodes have 1 GPUs")


def test_failure_has_the_reason(store: ObjectStore, document: dict[str, Any]) -> None:
    serve = FakeServe(
        lambda name: "DEPLOY_FAILED" if name == f"base-model-{DEEPSEEK}" else "RUNNING", "no luck"
    )
    with pytest.raises(InstanceError, match=rf"(?s)base model {DEEPSEEK} cannot be deployed.*no luck"):
        Operator(serve, store).deploy(document)


def test_what_is_late_is_named(store: ObjectStore, document: dict[str, Any]) -> None:
    serve = FakeServe(lambda name: "RUNNING" if name == "tiger" else "DEPLOYING")
    with pytest.raises(
        InstanceError, match=r"(?s)not ready after 0 s.*base model llama-3.1-8b: status DEPLOYING"
    ):
        Operator(serve, store).deploy(document)


def test_deployment_is_in_the_audit_log(operator: Operator, document: dict[str, Any]) -> None:
    operator.deploy(document)
    (entry,) = AuditLog(operator.store).entries(utc_now() - timedelta(days=1))
    assert (entry.action, entry.outcome, entry.targets["config"]) == (Action.DEPLOY_SETTINGS, "done", "gpu")


def test_bucket_that_cannot_have_the_audit_log_does_not_prevent_a_deployment(
    document: dict[str, Any], store: ObjectStore
) -> None:
    operator = Operator(FakeServe(), UnfitStore(store.settings))
    assert operator.deploy(document) is None
    assert operator.serve.names
    assert any("the audit log will not have this" in line for line in operator.told)

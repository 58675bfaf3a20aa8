"""The RayService agrees with the code, the settings, the lock and the documents, and is safe to apply."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute

from cluster.check_manifest import DIRECTORY, PATCH, merged
from serve_app.api.routes import operations as operator_routes
from serve_app.instance.haproxy import BINARY_VARIABLE, DATA_PATH
from serve_app.settings import Settings, load_settings

DEPRECATED = {"serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"}
SLOWEST_TOKENS_PER_SECOND = 10
OWN_END_S = 60
"""The time that Ray has for its own end, after its node has been drained."""
SECRET_NAMES = ("TOKEN", "SECRET", "PASSWORD", "ACCESS_KEY")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("TIGER_MODEL_PATHS", raising=False)
    return load_settings("gpu")


def variables(container: Any) -> dict[str, Any]:
    return {variable["name"]: variable for variable in container["env"]}


def test_kuberay_serves_what_serve_deploy_serves(service: Any) -> None:
    serve_config = yaml.safe_load((DIRECTORY / "serve.gpu.yaml").read_text())
    assert yaml.safe_load(service["serveConfigV2"]) == serve_config


def test_service_has_no_field_that_kuberay_ignores(service: Any) -> None:
    assert DEPRECATED & service.keys() == set()


def test_new_cluster_starts_beside_the_old_one(service: Any, operations: str) -> None:
    """Two clusters may use one bucket, because only the newer one changes it."""
    assert service["upgradeStrategy"] == {"type": "NewCluster"}
    assert "`upgradeStrategy` is `NewCluster`" in operations


def test_ray_is_the_one_of_the_lock(service: Any, gpu_lock: dict[str, str]) -> None:
    assert service["rayClusterConfig"]["rayVersion"] == gpu_lock["ray"]


def test_ray_asks_for_a_token(service: Any) -> None:
    assert service["rayClusterConfig"]["authOptions"] == {"mode": "token", "secretName": "tiger-ray-token"}


def test_all_nodes_have_the_image_that_the_document_builds(containers: list[Any], operations: str) -> None:
    (image,) = {container["image"] for container in containers}
    assert f"docker build -f cluster/Dockerfile -t {image} ." in operations
    assert f"docker build -f cluster/Dockerfile -t {image} ." in (DIRECTORY / "Dockerfile").read_text()


def test_no_pod_can_become_root(service: Any, pods: list[Any], containers: list[Any]) -> None:
    for pod in pods:
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert type(security["runAsUser"]) is int and security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    autoscaler = service["rayClusterConfig"]["autoscalerOptions"]
    for container in (*containers, autoscaler):
        security = container["securityContext"]
        assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_workers_have_no_credentials_of_kubernetes(workers: Any) -> None:
    assert workers["template"]["spec"]["automountServiceAccountToken"] is False


def test_workers_are_as_many_as_the_settings_need_gpus(
    service: Any, workers: Any, settings: Settings
) -> None:
    (container,) = workers["template"]["spec"]["containers"]
    per_worker = int(container["resources"]["limits"]["nvidia.com/gpu"])
    serving = sum(model.serving.num_replicas * model.serving.num_gpus for model in settings.models)
    training = sum(model.training.num_workers * model.training.num_gpus for model in settings.models)
    assert container["resources"]["requests"]["nvidia.com/gpu"] == str(per_worker)
    assert workers["replicas"] == workers["minReplicas"] == serving / per_worker
    assert workers["maxReplicas"] == (serving + training) / per_worker
    assert service["rayClusterConfig"]["enableInTreeAutoscaling"] is True


def test_a_worker_holds_a_whole_replica(workers: Any, settings: Settings) -> None:
    (container,) = workers["template"]["spec"]["containers"]
    for model in settings.models:
        assert model.serving.num_gpus <= int(container["resources"]["limits"]["nvidia.com/gpu"])
        assert model.serving.num_cpus <= int(container["resources"]["requests"]["cpu"])


def test_head_has_the_cpus_of_the_ingress_and_no_gpu(head: Any, settings: Settings) -> None:
    assert head["rayStartParams"]["num-gpus"] == "0"
    ingress = settings.ingress.num_replicas * settings.ingress.num_cpus
    assert int(head["rayStartParams"]["num-cpus"]) >= ingress


def test_a_worker_has_the_time_of_the_longest_stream_to_end(
    workers: Any, settings: Settings, operations: str
) -> None:
    pod = workers["template"]["spec"]
    drain_s = int(variables(pod["containers"][0])["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]["value"])
    longest_s = max(model.max_context_tokens for model in settings.models) / SLOWEST_TOKENS_PER_SECOND
    assert drain_s >= longest_s
    assert pod["terminationGracePeriodSeconds"] == drain_s + OWN_END_S
    assert f"{drain_s} s" in operations and f"{drain_s + OWN_END_S} s" in operations


def test_head_ends_sooner_than_a_worker_that_waits_for_streams(
    head: Any, workers: Any, operations: str
) -> None:
    """The Trainer of an ended service must be gone before the next one starts."""
    grace_s = head["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s < workers["template"]["spec"]["terminationGracePeriodSeconds"]
    assert f"{grace_s} s" in operations


def test_clients_reach_workers_whose_haproxy_answers(
    service: Any, workers: Any, containers: list[Any]
) -> None:
    """HAProxy refuses Serve's own paths, which KubeRay would ask for."""
    (container,) = workers["template"]["spec"]["containers"]
    probe = container["readinessProbe"]["httpGet"]
    assert service["excludeHeadPodFromServeSvc"] is True
    assert probe["path"] in {
        route.path for route in operator_routes.router.routes if isinstance(route, APIRoute)
    }
    for each in containers:
        ports = {port["name"]: port["containerPort"] for port in each["ports"]}
        assert ports[probe["port"]] == yaml.safe_load(service["serveConfigV2"])["http_options"]["port"]


def test_all_nodes_have_the_same_environment_with_the_data_path(containers: list[Any]) -> None:
    head, worker = (variables(container) for container in containers)
    assert head == worker
    assert len(head) == len(containers[0]["env"])
    assert DATA_PATH.items() <= {name: each.get("value") for name, each in head.items()}.items()


def test_haproxy_is_the_program_of_the_package(containers: list[Any], root: Path) -> None:
    path = Path(variables(containers[0])[BINARY_VARIABLE]["value"])
    dockerfile = (DIRECTORY / "Dockerfile").read_text()
    assert f"VIRTUAL_ENV={path.parent.parent} " in dockerfile
    assert f'\n{path.name} = "serve_app.instance.haproxy:main"\n' in (root / "pyproject.toml").read_text()


def test_settings_in_the_environment_exist(containers: list[Any], service: Any) -> None:
    (application,) = yaml.safe_load(service["serveConfigV2"])["applications"]
    names = [name.removeprefix("TIGER_") for name in variables(containers[0]) if name.startswith("TIGER_")]
    names.remove("CONFIG")
    assert variables(containers[0])["TIGER_CONFIG"]["value"] == application["args"]["config"]
    for name in names:
        section, _, key = name.lower().partition("__")
        assert key in type(getattr(load_settings("gpu"), section)).model_fields


def test_secrets_come_from_secrets_that_the_document_creates(
    service: Any, containers: list[Any], operations: str
) -> None:
    secrets = {service["rayClusterConfig"]["authOptions"]["secretName"]}
    for name, variable in variables(containers[0]).items():
        if any(part in name for part in SECRET_NAMES):
            assert "value" not in variable
        if "valueFrom" in variable:
            reference = variable["valueFrom"]["secretKeyRef"]
            secrets.add(reference["name"])
            assert f"--from-literal={reference['key']}=" in operations
    assert all(f"kubectl create secret generic {name} " in operations for name in secrets)


def test_every_node_has_a_volume_for_weights(pods: list[Any]) -> None:
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert mounts[variables(container)["HF_HOME"]["value"]] == "weights"
        assert mounts.keys() >= {"/dev/shm"}
        assert set(mounts.values()) == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_files_of_volumes_fit_into_the_requested_storage(pods: list[Any]) -> None:
    """The shared memory is part of the pod's memory, and the weights of a worker are part of its disk."""
    for pod in pods:
        volumes = {each["name"]: each["emptyDir"]["sizeLimit"] for each in pod["spec"]["volumes"]}
        resources = pod["spec"]["containers"][0]["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        assert gibibytes(volumes["shared-memory"]) < gibibytes(resources["limits"]["memory"])
    assert gibibytes(volumes["weights"]) < gibibytes(resources["requests"]["ephemeral-storage"])


def gibibytes(quantity: str) -> int:
    assert quantity.endswith("Gi")
    return int(quantity.removesuffix("Gi"))


def test_fault_tolerance_changes_nothing_else(service: Any, operations: str) -> None:
    patched = merged({"spec": service}, yaml.safe_load(PATCH.read_text()))["spec"]
    options = patched["rayClusterConfig"].pop("gcsFaultToleranceOptions")
    assert patched == service
    password = options["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert f"kubectl create secret generic {password['name']} " in operations
    assert f"--from-literal={password['key']}=" in operations

"""The NetworkPolicy and the PodDisruptionBudgets hold for the pods of the RayService."""

from typing import Any

import yaml

from cluster.check_manifest import DIRECTORY

NODE_TYPE = "ray.io/node-type"
"""The label by which KubeRay tells heads from workers."""


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DIRECTORY / name).read_text()))


def test_policy_holds_for_every_pod(pods: list[Any]) -> None:
    (policy,) = documents("network-policy.yaml")
    selected = policy["spec"]["podSelector"]["matchLabels"]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    for pod in pods:
        assert selected.items() <= pod["metadata"]["labels"].items()


def test_only_the_api_is_open_to_everybody(service: Any) -> None:
    (policy,) = documents("network-policy.yaml")
    http = yaml.safe_load(service["serveConfigV2"])["http_options"]
    open_rules = [rule for rule in policy["spec"]["ingress"] if "from" not in rule]
    assert open_rules == [{"ports": [{"port": http["port"]}]}]


def test_ports_between_pods_are_open_to_the_pods_alone() -> None:
    (policy,) = documents("network-policy.yaml")
    (inner,) = [rule for rule in policy["spec"]["ingress"] if "ports" not in rule]
    assert inner["from"] == [{"podSelector": policy["spec"]["podSelector"]}]


def test_policy_names_ports_that_the_containers_have(containers: list[Any]) -> None:
    (policy,) = documents("network-policy.yaml")
    named = {port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", [])}
    assert named <= {port["containerPort"] for each in containers for port in each["ports"]}


def test_budgets_hold_for_the_head_and_for_the_workers(pods: list[Any]) -> None:
    budgets = documents("disruption-budgets.yaml")
    for budget, pod, node_type in zip(budgets, pods, ("head", "worker"), strict=True):
        labels = pod["metadata"]["labels"] | {NODE_TYPE: node_type}
        assert budget["spec"]["selector"]["matchLabels"] == labels


def test_budgets_are_numbers_that_kubernetes_can_count(workers: Any) -> None:
    """A RayCluster has no scale, so Kubernetes refuses every eviction by a budget of another form."""
    head, worker = (budget["spec"] for budget in documents("disruption-budgets.yaml"))
    assert head["minAvailable"] == 1
    assert 1 <= worker["minAvailable"] < workers["minReplicas"]
    assert "maxUnavailable" not in head.keys() | worker.keys()


def test_a_worker_that_is_never_ready_stops_no_drain() -> None:
    _, worker = (budget["spec"] for budget in documents("disruption-budgets.yaml"))
    assert worker["unhealthyPodEvictionPolicy"] == "AlwaysAllow"

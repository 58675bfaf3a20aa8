"""The resources that the deployments of an installation reserve, compared with those of the nodes.

Ray lets a replica without a place wait for ever, because a node may still come. An operator should know that
at once.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from serve_app.settings import Settings

ENGINE_CPUS = 1
"""CPUs that each replica of a base model reserves for the processes of its engine, beside its own."""


class Need(NamedTuple):
    """The resources of all replicas, or of all training workers, of one part."""

    part: str
    cpus: float
    gpus: float


def replica_needs(settings: Settings) -> Iterator[Need]:
    ingress = settings.ingress
    yield Need("Ingress", ingress.least_replicas * ingress.num_cpus, 0)
    for model in settings.models:
        serving = model.serving
        cpus = serving.num_cpus + ENGINE_CPUS
        num_replicas = serving.least_replicas
        yield Need(f"base model {model.id}", num_replicas * cpus, num_replicas * serving.num_gpus)


def training_needs(settings: Settings) -> Iterator[Need]:
    for model in settings.models:
        training = model.training
        yield Need(
            f"the training of {model.id}",
            training.num_workers * training.cpus_per_worker,
            training.num_workers * training.num_gpus,
        )


def shortages(settings: Settings, totals: Mapping[str, float]) -> list[str]:
    """Returns a line for each resource of which all nodes together have too little. None: they suffice."""
    replicas, trainings = list(replica_needs(settings)), list(training_needs(settings))
    lines = []
    for resource, field in (("CPU", "cpus"), ("GPU", "gpus")):
        total = totals.get(resource, 0)
        reserved = sum(getattr(need, field) for need in replicas)
        if reserved > total:
            amounts = [(each.part, getattr(each, field)) for each in replicas]
            parts = ", ".join(f"{part} {amount:g}" for part, amount in amounts if amount)
            lines.append(
                f"the nodes have {total:g} {resource}s, and the replicas reserve {reserved:g} ({parts}): "
                f"some of them wait until a node comes; `ray start` takes --num-{field}"
            )
            continue
        late = [each.part for each in trainings if reserved + getattr(each, field) > total]
        if late:
            lines.append(
                f"the nodes have {total:g} {resource}s, and the replicas reserve {reserved:g} of them: "
                f"{', '.join(late)} waits until there are more"
            )
    return lines

"""The settings with which the replicas of one base model start; a part of `serve_app.settings`."""

import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from registry.records import Record
from serve_app.scaling_settings import BaseModelAutoscaling, ReplicaLife, require_one_number
from training.settings import TrainingSettings


class AcceleratorSettings(Record):
    kind: Literal["cpu", "gpu"] = "gpu"
    type: str | None = Field(None, description="Ray accelerator type, for example H100; None: any")


class ReplicaSettings(ReplicaLife):
    """The settings of the vLLM replicas of one base model.

    Health checks are frequent, so that Serve soon notices that the process of a replica has ended.
    """

    health_check_period_s: float = Field(1, gt=0, description="time between two health checks of a replica")
    health_check_timeout_s: float = Field(
        10, gt=0, description="time for an answer; Serve replaces a replica after three failed checks"
    )
    num_replicas: int = Field(1, ge=1, description="number of replicas without `autoscaling`")
    autoscaling: BaseModelAutoscaling | None = Field(
        None, description="bounds of a number of replicas that follows the load; None: `num_replicas`"
    )
    num_cpus: float = Field(1, ge=0)
    accelerator: AcceleratorSettings = AcceleratorSettings()
    gpus_per_replica: float | None = Field(
        None,
        gt=0,
        description="GPUs of a replica; None: one for each worker of the engine; below 1: it shares its GPU",
    )
    max_adapters: int = Field(64, ge=1, description="adapters kept ready on one replica")
    max_adapter_lead: int = Field(
        8,
        ge=1,
        description="so many more requests on the replicas that have an adapter load it on another one",
    )
    share_beside: float = Field(
        1,
        gt=0,
        le=3,
        description="beside others, a user may have this multiple of the engine's free places",
    )
    engine: dict[str, Any] = Field({}, description="vLLM engine arguments")
    environment: dict[str, str] = Field({}, description="environment of the engine's processes")

    @property
    def most_replicas(self) -> int:
        return self.autoscaling.max_replicas if self.autoscaling else self.num_replicas

    @property
    def least_replicas(self) -> int:
        """The number of replicas for which there must always be room: at least one."""
        return max(1, self.autoscaling.min_replicas) if self.autoscaling else self.num_replicas

    @property
    def num_gpus(self) -> float:
        """The number of GPUs that Ray reserves for a replica."""
        if self.accelerator.kind == "cpu":
            return 0
        return self.gpus_per_replica or self._num_engine_workers

    @property
    def _num_engine_workers(self) -> int:
        sizes = (self.engine.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline"))
        return math.prod(int(size) for size in sizes)

    @model_validator(mode="after")
    def _number_of_replicas_is_given_once(self) -> Self:
        require_one_number(self.num_replicas, self.autoscaling)
        return self

    @model_validator(mode="after")
    def _gpus_fit_the_engine(self) -> Self:
        given, needed = self.gpus_per_replica, self._num_engine_workers
        is_part = given is not None and given < 1 and needed == 1
        if given is not None and given != needed and not is_part:
            raise ValueError(f"gpus_per_replica: it is {given:g}, and the engine needs {needed}")
        return self


class ServedModelSettings(Record):
    """The settings of a base model that its replicas use."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    source: str = Field(
        description="a Hugging Face repository, an absolute path, or "
        "`package:<import name>/<file.gguf>` for weights shipped in a Python package"
    )
    chat_template: str | None = Field(
        None,
        description="name of a file in `training/chat_templates` without its extension, or an absolute path; "
        "None: the template of the weights",
    )
    max_context_tokens: int = Field(ge=16, description="prompt and completion together")
    default_max_tokens: int = Field(512, ge=1, description="max_tokens of a request that gives none")
    max_rank: int = Field(32, ge=1)
    serving: ReplicaSettings = ReplicaSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _replicas_that_lend_their_gpu_stay(self) -> Self:
        if self.training.share_gpu and self.serving.autoscaling is not None:
            raise ValueError(
                "serving.autoscaling: it cannot be used with training.share_gpu, because a replica that is "
                "added while a training has the GPU would take its memory"
            )
        return self

    def weights_path(self, weights_directory: Path) -> str:
        """Returns the repository id or the directory that vLLM and transformers load."""
        if self.source.startswith("package:"):
            return str(weights_directory / self.id)
        return self.source

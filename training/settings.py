"""The settings of training; one section of `serve_app.settings`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from registry.records import Record


class TrainingSettings(Record):
    """The settings of the resident Ray Train run of each base model."""

    num_workers: int = Field(
        1, ge=1, description="data-parallel workers of a run; each takes a part of a job"
    )
    use_gpu: bool = False
    gpus_per_worker: float = Field(
        1, gt=0, le=1, description="part of a GPU that Ray reserves for a worker; below 1: it shares the GPU"
    )
    gpu_memory_utilization: float = Field(
        1, gt=0, le=1, description="part of the memory of its GPU that a worker may use"
    )
    cpus_per_worker: float = Field(1, gt=0)
    threads_per_worker: int | None = Field(
        None, ge=1, description="torch threads; None: one for each core of the machine"
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="type of the frozen base weights")
    shard_base_model: bool = Field(
        False, description="FSDP: each worker keeps a part of every layer, for models larger than one GPU"
    )
    share_gpu: bool = Field(
        False, description="serve and train on the same GPU: the replicas sleep while a job runs"
    )
    max_tokens_per_pack: int = Field(
        2048, ge=1, description="most tokens in one forward pass; halved when memory runs out"
    )
    gradient_checkpointing: bool = Field(
        False, description="True: from the start; False: only after memory has run out"
    )
    state_interval_s: float = Field(
        30, ge=0, description="time between two saved states, from which a job continues after a fault"
    )
    slice_s: float = Field(
        30, gt=0, description="a job that has run for this time gives way if jobs of other users wait"
    )
    max_paused_in_memory: int = Field(
        4, ge=0, description="most paused jobs that stay in memory; further ones are written to files"
    )
    idle_timeout_s: float = Field(
        600, gt=0, description="a run that had no work for this time ends and frees its memory"
    )
    max_attempts: int = Field(
        3, ge=1, description="a job fails after this many attempts in a row that made no progress"
    )

    @property
    def num_gpus(self) -> float:
        """The number of GPUs that Ray reserves for a worker."""
        return self.gpus_per_worker if self.use_gpu else 0

    @property
    def resources_per_worker(self) -> dict[str, float]:
        """The resources that Ray reserves for a worker."""
        return {"CPU": self.cpus_per_worker} | ({"GPU": self.num_gpus} if self.use_gpu else {})

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.share_gpu and self.shard_base_model:
            raise ValueError("share_gpu: a sharded base model stays on its GPUs; set only one of the two")
        if self.num_workers > 1 and 0 < self.num_gpus < 1:
            raise ValueError("gpus_per_worker: several workers of one run need a whole GPU each")
        return self

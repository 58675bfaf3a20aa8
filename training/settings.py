"""How private models are trained; one section of `serve_app.settings`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from registry.records import Record

SHARED_GPU = 0.5
"""Of a GPU, as Ray counts it: a replica and a trainer's worker on each."""


class TrainingSettings(Record):
    """The resident Ray Train run of each base model."""

    num_workers: int = Field(1, ge=1, description="data-parallel workers of a run, each with a part of a job")
    use_gpu: bool = False
    cpus_per_worker: float = Field(1, gt=0)
    threads_per_worker: int | None = Field(
        None, ge=1, description="torch threads; None: the cores of the machine"
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="of the frozen base weights")
    shard_base_model: bool = Field(
        False, description="FSDP: each worker keeps its part of every layer, for models larger than one GPU"
    )
    share_gpu: bool = Field(
        False, description="the replicas sleep during a job, for one GPU that serves and trains"
    )
    max_tokens_per_pack: int = Field(
        2048, ge=1, description="in one forward pass; halved while memory runs out"
    )
    gradient_checkpointing: bool = Field(
        False, description="from the start; without it, when memory asks for it"
    )
    state_interval_s: float = Field(
        30, ge=0, description="a job that dies goes on from a state at most so old"
    )
    slice_s: float = Field(
        30, gt=0, description="a job that ran so long gives way when jobs of other users wait"
    )
    max_paused_in_memory: int = Field(
        4, ge=0, description="jobs that gave way and wait in memory; those beyond are written to a file"
    )
    idle_timeout_s: float = Field(
        600, gt=0, description="a run without work leaves after this time and frees its memory"
    )
    max_attempts: int = Field(
        3, ge=1, description="how often a job may die with its worker, no further than before, until it fails"
    )

    @property
    def gpus_per_worker(self) -> float:
        return SHARED_GPU if self.share_gpu else 1

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.share_gpu and self.shard_base_model:
            raise ValueError("share_gpu: a sharded base model stays on its GPUs; set only one of the two")
        return self

"""How private models are trained; one section of `serve_app.settings`."""

from typing import Literal

from pydantic import Field

from registry.records import Record


class TrainingSettings(Record):
    """The resident Ray Train run of each base model."""

    num_workers: int = Field(1, ge=1, le=1, description="data-parallel workers of a run")
    use_gpu: bool = False
    cpus_per_worker: float = Field(1, gt=0)
    threads_per_worker: int | None = Field(
        None, ge=1, description="torch threads; None: the cores of the machine"
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="of the frozen base weights")
    micro_batch_size: int = Field(4, ge=1, description="responses in one forward pass")
    gradient_checkpointing: bool = False
    idle_timeout_s: float = Field(
        600, gt=0, description="a run without work leaves after this time and frees its memory"
    )
    max_attempts: int = Field(3, ge=1, description="how often a job may die with its worker before it fails")

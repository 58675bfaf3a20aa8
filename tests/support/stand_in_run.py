"""A training run that stands in for Ray Train: a worker with the real resources, which trains nothing.

The worker imports only what it needs. Ray Serve LLM would take a minute on a busy machine.
"""

import asyncio
import os
import secrets
import tempfile
import threading
from pathlib import Path

import ray
from ray import serve
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from registry.revisions import Revisions
from registry.store import ObjectStore
from training.runs import OnEnd, groups_of_new_run
from training.types import Assignment, Instruction
from training.worker.loop import EndRun, RunConfiguration
from training.worker.run_groups import remove_groups


def gpu_of_this_process() -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


@ray.remote
class StandInWorker:
    """A training worker that makes an empty revision. Its loss is the number of its GPU."""

    def work(self, configuration: RunConfiguration) -> None:
        trainer = serve.get_deployment_handle(configuration.controller, configuration.application)
        base_model = configuration.base_model
        worker = trainer.enter.remote(base_model).result()
        revisions = Revisions(ObjectStore(configuration.storage))
        while (order := trainer.next_assignment.remote(base_model, worker).result()) != Instruction.LEAVE:
            if isinstance(order, Assignment):
                attempt = (order.job_id, order.attempt)
                if configuration.settings.share_gpu:
                    trainer.borrow_gpu.remote(*attempt).result()
                    trainer.return_gpu.remote(*attempt).result()
                _publish(revisions, order)
                trainer.complete.remote(*attempt).result()


def _publish(revisions: Revisions, order: Assignment) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            Path(directory, name).write_text("{}")
        revisions.publish(
            order.uid,
            Path(directory),
            revision=order.revision,
            parent_revision=order.parent_revision,
            job=order.job_id,
            base_model=order.base_model,
            metrics={"loss": float(gpu_of_this_process()), "trained_tokens": 2, "duration_s": 0.1},
        )


def start_stand_in(configuration: RunConfiguration, on_end: OnEnd) -> EndRun:
    """Start one worker, with the resources that a worker of Ray Train gets."""
    loop = asyncio.get_running_loop()
    resources = configuration.settings.resources_per_worker
    groups = groups_of_new_run(configuration.application, configuration.base_model)

    def run() -> None:
        # A placement group that outlives this process, as one that Ray Train makes for its workers.
        name = f"{groups}{secrets.token_hex(8)}"
        group = ray.util.placement_group([resources], name=name, lifetime="detached")
        worker = StandInWorker.options(  # type: ignore[attr-defined]
            num_cpus=resources["CPU"],
            num_gpus=resources["GPU"],
            scheduling_strategy=PlacementGroupSchedulingStrategy(group),
        ).remote()
        try:
            ray.get(worker.work.remote(configuration))
        finally:
            ray.kill(worker)
            ray.util.remove_placement_group(group)
            loop.call_soon_threadsafe(on_end)

    threading.Thread(target=run, daemon=True).start()
    return lambda: remove_groups(groups)

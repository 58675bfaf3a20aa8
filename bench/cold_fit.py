"""Measures one `TorchTrainer.fit()` for one 5-step request.

python -m bench.cold_fit FILE        writes the seconds outside the optimizer steps to FILE
"""

import os
import sys
import tempfile
import time
from typing import Any


def main() -> None:
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from serve_app.settings import load_settings

    model = load_settings("local").models[0]
    directory = load_settings("local").weights_directory.expanduser()
    ray.init(address="auto", log_to_driver=False)
    with tempfile.TemporaryDirectory() as storage:
        config = {
            "weights": model.weights_path(directory),
            "settings": model.training,
            "max_context_tokens": model.max_context_tokens,
            "told": f"{storage}/steps",
        }
        start = time.perf_counter()
        TorchTrainer(
            work,
            train_loop_config=config,
            scaling_config=ScalingConfig(num_workers=1),
            run_config=RunConfig(name="cold", storage_path=storage),
        ).fit()
        total_s = time.perf_counter() - start
        with open(str(config["told"])) as file:
            steps_s = sum(float(line) for line in file)
    with open(sys.argv[1], "w") as file:
        print(round(total_s - steps_s, 2), file=file)


def work(config: dict[str, Any]) -> None:
    from pathlib import Path

    from bench.path import PROMPT, RESPONSES
    from bench.steps import assignment_of
    from registry.records import Group, Hyperparameters, JobRequest, Message, RewardedResponse
    from training.worker.job import train
    from training.worker.loop import PROCESS_GROUP_VARIABLES
    from training.worker.resident_model import ResidentModel

    for name in PROCESS_GROUP_VARIABLES:
        os.environ.pop(name, None)
    resident = ResidentModel(config["weights"], config["settings"], config["max_context_tokens"])
    group = Group(
        messages=tuple(Message.model_validate(message) for message in PROMPT),
        responses=tuple(RewardedResponse.model_validate(response) for response in RESPONSES),
    )
    values = Hyperparameters(learning_rate=1e-5, learning_steps=5, beta=0.04, epsilon=0.2)
    job = JobRequest(groups=(group,), hyperparameters=values)
    with tempfile.TemporaryDirectory() as directory, open(config["told"], "w") as told:
        train(
            resident,
            assignment_of(job),
            None,
            Path(directory) / "adapter",
            lambda step: print(step.seconds, file=told, flush=True),
            lambda: False,
        )


if __name__ == "__main__":
    main()

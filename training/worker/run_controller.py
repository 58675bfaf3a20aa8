"""The controller of a Ray Train run: whoever started the run can kill it.

`TorchTrainer.fit` keeps the handle of its controller to itself, and the controller does not answer while its
placement group waits for resources. Its process is on the same node. It therefore puts a handle of itself
into the private directory of the run.
"""

from pathlib import Path

import ray
from ray import cloudpickle

HANDLE_FILE = "controller"


def publish_this_controller(directory: Path) -> None:
    """Write the handle of the actor of this process."""
    new = directory / f"{HANDLE_FILE}.new"
    new.write_bytes(cloudpickle.dumps(ray.get_runtime_context().current_actor))
    new.rename(directory / HANDLE_FILE)


def kill_controller(directory: Path) -> bool:
    """Kill the controller, and with it the workers of the run. False: there is none yet.

    A controller that Ray has not started yet ends with the process that asked for it.
    """
    try:
        handle = (directory / HANDLE_FILE).read_bytes()
    except FileNotFoundError:
        return False
    ray.kill(cloudpickle.loads(handle))
    return True

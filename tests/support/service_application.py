"""Deploys the applications of a settings file as `serve deploy` does, with fakes of the model servers."""

import asyncio
import threading
import time
from functools import partial
from pathlib import Path

from ray import serve
from ray.serve import Application
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from serve_app.application import build_application
from serve_app.deployed_settings import Document
from serve_app.deployment_options import model_server_name
from serve_app.no_ingress import without_ingress
from serve_app.serve_config import BASE_MODEL_IMPORT_PATH, CORE_IMPORT_PATH, serve_config
from serve_app.settings import Settings
from tests.support.fake_model_server import FakeModelServer
from tests.support.ray_private import deploy_applications
from training.runs import OnEnd
from training.worker.loop import EndRun, RunConfiguration

START_TIMEOUT_S = 120
METRICS_INTERVAL_S = 0.5
"""The time between two reports of a load to Serve's controller. By default it is 10 s."""
BUILDERS = {CORE_IMPORT_PATH: "build_core", BASE_MODEL_IMPORT_PATH: "build_base_model"}
"""The functions below in place of those that the Serve config names."""


def start_no_run(signals: Path, configuration: RunConfiguration, on_end: OnEnd) -> EndRun:
    """Start no worker: the test acts as one. The run ends when a file in `signals` says so."""
    loop, ended = asyncio.get_running_loop(), signals / f"ended-run {configuration.base_model}"

    def wait() -> None:
        while not ended.exists():
            time.sleep(0.1)
        ended.unlink()
        loop.call_soon_threadsafe(on_end)

    threading.Thread(target=wait, daemon=True).start()
    return lambda: None


def build_core(args: Document) -> Application:
    return build_application(args["settings"], partial(start_no_run, Path(args["signals"])))


def build_base_model(args: Document) -> Application:
    """Build the application of a base model with a fake that gets its orders from files in `signals`."""
    settings = args["settings"]
    server = serve.deployment(
        FakeModelServer,
        name=model_server_name(settings["base_model"]["id"]),
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=0.5,
        max_ongoing_requests=1000,
    )
    return without_ingress(server.bind(Path(args["signals"]), settings))


def document_of(settings: Settings) -> Document:
    """Return the contents of a settings file."""
    return settings.model_dump(mode="json", exclude_defaults=True)


def submit(document: Document, signals: Path) -> None:
    """Submit a settings file. Applications and replicas that it does not change stay."""
    config = serve_config(document)
    for application in config["applications"]:
        application["import_path"] = f"{__name__}:{BUILDERS[application['import_path']]}"
        application["args"] = {"signals": str(signals), "settings": application["args"]}
        for deployment in application["deployments"]:
            if "autoscaling_config" in deployment:
                deployment["autoscaling_config"]["metrics_interval_s"] = METRICS_INTERVAL_S
    deploy_applications(ServeDeploySchema.model_validate(config))


def are_running(document: Document) -> bool:
    """Return True if exactly the applications of the settings file run, as the last submission asks."""
    found = serve.status().applications
    names = {application["name"] for application in serve_config(document)["applications"]}
    return found.keys() == names and all(each.status == ApplicationStatus.RUNNING for each in found.values())

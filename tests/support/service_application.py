"""Deploys the applications of a settings file as `serve deploy` does, with fakes of the model servers."""

from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from serve_app.application import build_application
from serve_app.deployed_settings import Document
from serve_app.deployment_options import model_server_name
from serve_app.serve_config import BASE_MODEL_IMPORT_PATH, CORE_IMPORT_PATH, serve_config
from tests.support.fake_model_server import FakeModelServer
from tests.support.ray_private import deploy_applications
from tests.support.waiting import wait_until
from training.worker.loop import RunConfiguration

START_TIMEOUT_S = 120


def start_no_run(configuration: RunConfiguration, on_end: Any) -> None:
    """Start nothing: the test acts as the worker."""


def build_core(args: Document) -> Application:
    return build_application(args, start_no_run)


def build_base_model(args: Document) -> Application:
    """Build the application of a base model with a fake that gets its orders from files in `signals`."""
    signals, settings = args["signals"], args["settings"]
    server = serve.deployment(
        FakeModelServer,
        name=model_server_name(settings["base_model"]["id"]),
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=0.5,
        max_ongoing_requests=1000,
    )
    return server.bind(Path(signals), settings)


def deploy(document: Document, signals: Path) -> None:
    """Submit a settings file. Applications and replicas that it does not change stay."""
    config = serve_config(document)
    for application in config["applications"]:
        if application["import_path"] == CORE_IMPORT_PATH:
            application["import_path"] = f"{__name__}:build_core"
        else:
            assert application["import_path"] == BASE_MODEL_IMPORT_PATH
            application["import_path"] = f"{__name__}:build_base_model"
            application["args"] = {"signals": str(signals), "settings": application["args"]}
    deploy_applications(ServeDeploySchema.model_validate(config))


def are_running(document: Document) -> bool:
    """Return True if exactly the applications of the settings file run, as the last submission asks."""
    found = serve.status().applications
    names = {application["name"] for application in serve_config(document)["applications"]}
    return found.keys() == names and all(each.status == ApplicationStatus.RUNNING for each in found.values())


def deploy_and_wait(document: Document, signals: Path) -> None:
    deploy(document, signals)
    wait_until(lambda: are_running(document), START_TIMEOUT_S, pause_s=0.1)

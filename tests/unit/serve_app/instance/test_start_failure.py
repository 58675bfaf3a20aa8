import os
from pathlib import Path

import pytest

from serve_app.instance.serve_client import ApplicationState, DeploymentState
from serve_app.instance.start_failure import StartWatch, errors_in, find_failure, log_times

SERVER = "ModelServer:llama-3.1-8b"
ENGINE_FAILED = """\
A replica failed to start with exception. Retrying 2 more time(s). Error:
ray::ServeReplica:tiger:ModelServer:llama-3.1-8b.initialize_and_get_metadata() (pid=7, ip=127.0.0.1)
  File "replica.py", line 10, in initialize
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "core_client.py", line 20, in __init__
    raise RuntimeError("Engine core initialization failed. See root cause above.")
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}
"""
ARGUMENT_REFUSED = """\
A replica failed to start with exception. Retrying 2 more time(s). Error:
RuntimeError: Traceback (most recent call last):
  File "vllm_models.py", line 229, in from_llm_config
    raise ValueError(f"Unknown engine argument: {key}")
ValueError: Unknown engine argument: tool_strict_level
"""
LENGTH_REFUSED = """\
A replica failed to start with exception. Retrying 2 more time(s). Error:
RuntimeError: Failed to create vLLM engine config: 1 validation error for ModelConfig
  Value error, User-specified max_model_len (4096) is greater than 512. [type=value_error, input_value=Args()]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
STORAGE_AWAY = """\
A replica failed to start with exception. Retrying 2 more time(s). Error:
registry.errors.StorageUnavailable: storage cannot be reached
"""
ENGINE_LOG = """\
(EngineCore pid=71) INFO 11-26 15:10:28 [core.py:120] Initializing an engine
(Worker pid=73) ERROR 11-26 15:10:29 [executor.py:953] WorkerProc failed to start.
(Worker pid=73) ERROR 11-26 15:10:29 [executor.py:953] Traceback (most recent call last):
(Worker pid=73) ERROR 11-26 15:10:29 [executor.py:953]     raise ValueError("not this one")
(Worker pid=73) ERROR 11-26 15:10:29 [executor.py:953] torch.OutOfMemoryError: CUDA out of memory. Tried
(EngineCore pid=71) ERROR 11-26 15:10:29 [core.py:1510] EngineCore failed to start.
(EngineCore pid=71) ERROR 11-26 15:10:29 [core.py:1510] Exception: WorkerProc initialization failed due to
(MainProcess pid=70) ERROR 11-26 15:10:30 [parser.py:117] json.decoder.JSONDecodeError: Expecting value
"""


def application(message: str, status: str = "DEPLOYING", own_message: str = "") -> ApplicationState:
    deployments = tuple(
        DeploymentState(name=name, status="UPDATING", message=text, replicas=0, target_replicas=1)
        for name, text in (("Ingress", ""), (SERVER, message))
    )
    return ApplicationState(status=status, message=own_message, deployments=deployments)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The logs of a session: those of the engine that failed, and older ones of another start."""
    (tmp_path / "worker-aa-01-70.out").write_text(ENGINE_LOG)
    old = tmp_path / "worker-bb-01-60.out"
    old.write_text("(EngineCore pid=61) ERROR 11-26 14:00:00 [core.py:1510] ValueError: an older start\n")
    os.utime(old, (1, 1))
    return tmp_path


def older(logs: Path) -> dict[Path, int]:
    """The logs that were there before this start."""
    return {path: time_ns for path, time_ns in log_times(logs).items() if time_ns == 10**9}


def test_error_of_the_engine_is_told_and_not_its_consequences(logs: Path) -> None:
    failure = find_failure(application(ENGINE_FAILED), logs, older(logs))
    assert failure is not None
    assert failure.reason == f"{SERVER}: OutOfMemoryError: CUDA out of memory. Tried"
    assert not failure.is_final


def test_engine_that_said_nothing_leaves_the_message_of_the_replica(tmp_path: Path) -> None:
    failure = find_failure(application(ENGINE_FAILED), tmp_path, {})
    assert failure is not None and "Engine core initialization failed" in failure.reason


def test_refused_argument_is_final_at_the_first_try(logs: Path) -> None:
    failure = find_failure(application(ARGUMENT_REFUSED), logs, older(logs))
    assert failure is not None and failure.is_final
    assert failure.reason == f"{SERVER}: ValueError: Unknown engine argument: tool_strict_level"


def test_refusal_by_vllm_in_several_lines_is_final_and_becomes_one_line(logs: Path) -> None:
    failure = find_failure(application(LENGTH_REFUSED), logs, older(logs))
    assert failure is not None and failure.is_final
    assert failure.reason.endswith("Value error, User-specified max_model_len (4096) is greater than 512.")


def test_passing_fault_is_left_to_serve(logs: Path) -> None:
    failure = find_failure(application(STORAGE_AWAY), logs, older(logs))
    assert failure is not None and not failure.is_final
    busy = ENGINE_FAILED + "ValueError: Free memory on device cuda:0 (10/80 GiB) on startup is less\n"
    failure = find_failure(application(busy), logs, older(logs))
    assert failure is not None and not failure.is_final


def test_whatever_serve_gave_up_on_is_final(logs: Path) -> None:
    failure = find_failure(application(STORAGE_AWAY, "DEPLOY_FAILED"), logs, older(logs))
    assert failure is not None and failure.is_final
    built = "Deploying app 'tiger' failed with exception:\nTraceback:\nFileNotFoundError: [Errno 2] x.yaml\n"
    failure = find_failure(ApplicationState(status="DEPLOY_FAILED", message=built), logs, older(logs))
    assert failure is not None and failure.reason == "FileNotFoundError: [Errno 2] x.yaml"


@pytest.mark.parametrize("message", ["", "Waiting for resources. Error: none yet"])
def test_deployment_that_has_not_failed_is_no_failure(logs: Path, message: str) -> None:
    assert find_failure(application(message), logs, older(logs)) is None


def test_each_failure_is_told_once(logs: Path) -> None:
    watch = StartWatch(logs)
    first, second = (application(ENGINE_FAILED.replace("2 more", f"{n} more")) for n in (2, 1))
    told = [watch.new_failure(state) is not None for state in (first, first, second, second)]
    assert told == [True, False, True, False]


def test_log_of_a_start_is_read_though_the_clock_went_back(tmp_path: Path) -> None:
    log = tmp_path / "worker-aa-01-70.out"
    log.write_text("(EngineCore pid=61) ERROR 11-26 14:00:00 [core.py:1510] ValueError: an older start\n")
    watch = StartWatch(tmp_path)
    log.write_text(ENGINE_LOG)
    os.utime(log, (1, 1))
    failure = watch.new_failure(application(ENGINE_FAILED))
    assert failure is not None and "CUDA out of memory" in failure.reason


def test_replica_that_fails_in_a_running_application_is_not_part_of_a_start(logs: Path) -> None:
    assert StartWatch(logs).new_failure(application(ARGUMENT_REFUSED, "RUNNING")) is None


def test_error_of_pydantic_becomes_one_line() -> None:
    lines = [
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "  Value error, max_model_len (99) is greater than 64. [type=value_error, input_value=Args()]",
        "    For further information visit https://errors.pydantic.dev/2.14/v/value_error",
        "",
        "later text",
    ]
    (error,) = errors_in(lines)
    assert error.name == "ValidationError"
    assert error.text == (
        "1 validation error for ModelConfig: Value error, max_model_len (99) is greater than 64."
    )

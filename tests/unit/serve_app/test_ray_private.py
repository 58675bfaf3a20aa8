"""The names of Ray that we lean on are in the installed Ray, in the shapes that we use."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray import serve
from ray._common.usage import usage_lib
from ray.serve._private import constants, logging_utils, replica

from serve_app.api.http_server import NOT_FOR_CLIENTS
from serve_app.api.ingress import Ingress
from serve_app.deployment_options import ONE_LOOP
from serve_app.instance import haproxy, ray_head
from serve_app.instance.monitoring import PROGRAMS
from serve_app.instance.monitoring_files import SOURCE_NAME
from serve_app.ray_private import MULTIPLEX_WRAPPER
from tests.support.shapes import ATTRIBUTE, Shapes, cases_of, check_names, check_shape

VERSION = f"ray {ray.__version__}"
TRACING_VARIABLES = ("RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", "RAY_SERVE_TRACING_SAMPLING_RATIO")
"""The variables that operators may set, according to docs/operations.md."""
READERS = (
    "_common/usage/*.py",
    "_private/*.py",
    "_private/authentication/*.py",
    "autoscaler/_private/constants.py",
    "dashboard/consts.py",
    "dashboard/modules/metrics/metrics_head.py",
    "serve/_private/constants.py",
    "serve/_private/haproxy.py",
    "train/v2/_internal/constants.py",
)
"""The files of Ray that read environment variables."""
SEAM = "serve_app/ray_private.py"
SHAPES: Shapes = {
    "ray.serve": {
        "get_deployment_handle": "deployment_name, app_name=, _check_exists=, _record_telemetry=",
    },
    "ray.serve.context.ReplicaContext": {
        "_deployment_config": ATTRIBUTE,
    },
    "ray._common.network_utils": {
        "build_address": "host, port",
    },
    "ray.serve._private.constants": {
        "SERVE_LOGGER_NAME": ATTRIBUTE,
    },
    "ray.serve._private.replica": {
        "SERVE_BUILD_ASGI_APP_METHOD": ATTRIBUTE,
        "add_port_to_grpc_server": "server, address",
    },
    "ray.serve._private.request_router.PowerOfTwoChoicesRequestRouter": {
        "choose_replicas": "self, candidate_replicas, pending_request=",
        "initialize_state": "self, **kwargs",
        "replica_queue_len_cache": ATTRIBUTE,
    },
    "ray.serve.multiplex._ModelMultiplexWrapper": {
        "__init__": "self, model_load_func, self_arg, max_num_models_per_replica",
        "registered_model_gauge": ATTRIBUTE,
    },
}


@pytest.mark.parametrize(("owner", "name"), cases_of(SHAPES))
def test_name_has_the_shape_that_we_use(owner: str, name: str) -> None:
    check_shape(owner, name, SHAPES[owner][name])


def test_every_name_of_the_seam_has_a_shape() -> None:
    check_names(SEAM, SHAPES)


def test_serve_asks_the_ingress_for_its_application() -> None:
    assert hasattr(Ingress, replica.SERVE_BUILD_ASGI_APP_METHOD), VERSION


def test_serve_keeps_the_wrapper_of_multiplexed_functions_where_we_put_ours() -> None:
    assert f'"{MULTIPLEX_WRAPPER}"' in inspect.getsource(serve.multiplexed), VERSION


def test_log_of_a_replica_has_a_memory_handler() -> None:
    assert "MemoryHandler(" in inspect.getsource(logging_utils), VERSION


@pytest.mark.parametrize(
    "constant",
    [
        "SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER",
        "SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER",
        "SERVE_MULTIPLEXED_MODEL_ID",
        "SERVE_SESSION_ID",
    ],
)
def test_headers_that_serve_obeys_are_kept_from_clients(constant: str) -> None:
    assert getattr(constants, constant).encode() in NOT_FOR_CLIENTS, f"{VERSION}: {constant}"


def test_default_exporter_of_traces_is_where_the_documents_say() -> None:
    exporter = f"`{constants.DEFAULT_TRACING_EXPORTER_IMPORT_PATH}`"
    documented = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    assert [text for text in (exporter, *TRACING_VARIABLES) if text not in documented] == [], VERSION


def ray_variables(home: Path) -> Iterator[str]:
    """The environment variables that we set and Ray reads."""
    ours = {
        **haproxy.environment(home),
        **dict.fromkeys(ray_head.PORT_VARIABLES),
        **ONE_LOOP,
        **{program.ray_variable: "" for program in PROGRAMS},
        **dict.fromkeys(TRACING_VARIABLES),
        **ray_head.ray_environment(home, 1),
    }
    return (name for name in ours if name.startswith("RAY_") or name in ray_head.PORT_VARIABLES)


def test_ray_reads_every_variable_that_we_set(tmp_path: Path) -> None:
    root = Path(ray.__file__).parent
    text = "".join(path.read_text() for pattern in READERS for path in root.glob(pattern))
    names = set(ray_variables(tmp_path))
    assert len(names) > 20
    assert sorted(name for name in names if name not in text) == [], f"{VERSION} does not read these"


def test_dashboards_of_ray_are_where_grafana_looks_and_name_its_source() -> None:
    source = (Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "metrics_head.py").read_text()
    assert f'DEFAULT_PROMETHEUS_NAME = "{SOURCE_NAME}"' in source, VERSION
    for part in (
        'self.session_dir, "metrics"',
        'self._metrics_root, "grafana"',
        'config_output_path, "dashboards"',
    ):
        assert part in source, f"{VERSION}: {part}"


def test_ray_reports_its_use_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that could be asked would give a connection error, which is no ValueError."""
    for name, value in ray_head.WITHOUT_REPORTS.items():
        monkeypatch.setenv(name, value)
    assert not usage_lib.usage_stats_enabled()
    address, report = usage_lib._usage_stats_report_url(), usage_lib.generate_disabled_report_data()
    with pytest.raises(ValueError, match="nowhere"):
        usage_lib.UsageReportClient().report_usage_data(address, report)

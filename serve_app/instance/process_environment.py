"""The environment of Ray's processes of an instance, and of others that join them (`ray status`, a test)."""

from pathlib import Path

from serve_app.instance import haproxy
from serve_app.instance.base_weights import is_repository
from serve_app.instance.environment import inherited_environment, path_with_own_programs
from serve_app.instance.processes import MARKER
from serve_app.instance.storage import InstanceStorage
from serve_app.settings import Settings


def process_environment(
    home: Path, settings: Settings, http_port: int, storage: InstanceStorage
) -> dict[str, str]:
    """Returns the environment without what the Ray head adds. `http_port` is where HAProxy listens."""
    weights = settings.weights_directory.expanduser()
    own = {
        MARKER: str(home),
        "PATH": path_with_own_programs(),
        **haproxy.front_door_environment(
            settings.http.model_copy(update={"port": http_port}), settings.ingress.max_request_bytes
        ),
        "TIGER_WEIGHTS_DIRECTORY": str(weights),
        # vLLM compiles kernels at each start, which takes most of a minute. The cache avoids that.
        "TORCHINDUCTOR_CACHE_DIR": str(weights.parent / "inductor"),
    }
    if storage.is_own:
        own["TIGER_STORAGE__ENDPOINT_URL"] = str(storage.settings.endpoint_url)
        own["AWS_SHARED_CREDENTIALS_FILE"] = str(storage.credentials_path)
    if not any(is_repository(model.source) for model in settings.models):
        own["HF_HUB_OFFLINE"] = "1"
    return inherited_environment(with_aws_identity=not storage.is_own) | own

"""The environment for an instance's processes: the operator's, without variables that could mislead them."""

import os
import sys
from pathlib import Path

LOOPBACK = "127.0.0.1,localhost"

# These variables would attach a process to another cluster. The operator's own API key must not be passed on.
FOREIGN_VARIABLES = frozenset(
    {
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "RAY_AUTH_TOKEN",
        "RAY_JOB_ID",
        "RAY_NAMESPACE",
        "RAY_TMPDIR",
        "TIGER_API_KEY",
    }
)
# These variables take precedence over a credentials file.
AWS_IDENTITY_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
    }
)


def inherited_environment(with_aws_identity: bool) -> dict[str, str]:
    """Returns the environment of this process without those variables, and with no proxy for loopback."""
    dropped = FOREIGN_VARIABLES if with_aws_identity else FOREIGN_VARIABLES | AWS_IDENTITY_VARIABLES
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    return inherited | loopback_without_proxy()


def loopback_without_proxy() -> dict[str, str]:
    return {
        name: ",".join(filter(None, (os.environ.get(name), LOOPBACK))) for name in ("NO_PROXY", "no_proxy")
    }


def path_with_own_programs() -> str:
    """Returns PATH with the programs of this Python environment first.

    `tiger` is also called by its path, with an environment that is not activated. On GPUs, libraries of vLLM
    call the program `ninja`, which is installed beside this Python.
    """
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))

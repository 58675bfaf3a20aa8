"""The environment an instance's processes inherit: the operator's, less what would lead them elsewhere."""

import os

LOOPBACK = "127.0.0.1,localhost"

# They would attach a process to another cluster; and the operator's own API key is nobody's business.
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
# They win over a credentials file.
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
    """This process's environment, with loopback exempt from any proxy."""
    dropped = FOREIGN_VARIABLES if with_aws_identity else FOREIGN_VARIABLES | AWS_IDENTITY_VARIABLES
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    return inherited | loopback_without_proxy()


def loopback_without_proxy() -> dict[str, str]:
    return {
        name: ",".join(filter(None, (os.environ.get(name), LOOPBACK))) for name in ("NO_PROXY", "no_proxy")
    }

"""The Ray dashboard of a cluster: its address and its token, from the places where Ray's own commands look.

--address, RAY_DASHBOARD_ADDRESS                              the address, as for `serve deploy`
RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token        the token, in Ray's order
"""

from collections.abc import Mapping
from pathlib import Path

from registry.records import Record
from serve_app.instance.processes import InstanceError

ADDRESS_VARIABLE = "RAY_DASHBOARD_ADDRESS"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
TOKEN_PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"
MODE_VARIABLE = "RAY_AUTH_MODE"
DEFAULT_ADDRESS = "http://localhost:8265"
DEFAULT_TOKEN_PATH = Path(".ray") / "auth_token"
"""The path below the home directory of the user."""


class Dashboard(Record):
    """The address of a dashboard, with the token that it asks for. None: it asks for nothing."""

    url: str
    token: str | None = None
    is_of_this_machine: bool = False


def cluster_dashboard(address: str | None, environment: Mapping[str, str], user_home: Path) -> Dashboard:
    """Returns the dashboard of a cluster. Raises: InstanceError: an address or a token cannot be used."""
    url = address or environment.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
    if not url.startswith(("http://", "https://")):
        raise InstanceError(f"the address {url} of the Ray dashboard must begin with http:// or https://")
    return Dashboard(url=url.rstrip("/"), token=_token(environment, user_home))


def _token(environment: Mapping[str, str], user_home: Path) -> str | None:
    if environment.get(MODE_VARIABLE, "").lower() == "disabled":
        return None
    if token := environment.get(TOKEN_VARIABLE, "").strip():
        return token
    named = environment.get(TOKEN_PATH_VARIABLE)
    path = Path(named).expanduser() if named else user_home / DEFAULT_TOKEN_PATH
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        if named:
            raise InstanceError(f"{TOKEN_PATH_VARIABLE} names a file that does not exist") from None
        return None
    except OSError as error:
        raise InstanceError(f"the token of Ray cannot be read: {error.strerror}") from error

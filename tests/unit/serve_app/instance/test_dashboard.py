"""The dashboard of a cluster: address and token, from the places where Ray's own commands look."""

from pathlib import Path

import pytest

from serve_app.instance.dashboard import cluster_dashboard
from serve_app.instance.processes import InstanceError


def test_address_is_that_of_the_option_of_ray_or_the_default(tmp_path: Path) -> None:
    variable = {"RAY_DASHBOARD_ADDRESS": "http://variable:8265"}
    assert cluster_dashboard("https://option/", variable, tmp_path).url == "https://option"
    assert cluster_dashboard(None, variable, tmp_path).url == "http://variable:8265"
    assert cluster_dashboard(None, {}, tmp_path).url == "http://localhost:8265"


def test_address_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstanceError, match="must begin with http"):
        cluster_dashboard("ray://head:10001", {}, tmp_path)


def test_token_is_found_in_the_order_of_ray(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of the home\n")
    named = tmp_path / "named"
    named.write_text("of the file\n")
    path = {"RAY_AUTH_TOKEN_PATH": str(named)}

    def token(**environment: str) -> str | None:
        return cluster_dashboard(None, environment, tmp_path).token

    assert token(RAY_AUTH_TOKEN="itself", **path) == "itself"
    assert token(**path) == "of the file"
    assert token() == "of the home"
    assert token(RAY_AUTH_MODE="disabled") is None


def test_no_token_is_no_error_and_a_missing_file_is_one(tmp_path: Path) -> None:
    assert cluster_dashboard(None, {}, tmp_path).token is None
    with pytest.raises(InstanceError, match="RAY_AUTH_TOKEN_PATH names a file that does not exist"):
        cluster_dashboard(None, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "gone")}, tmp_path)

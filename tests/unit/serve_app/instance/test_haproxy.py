"""The arguments with which `tiger-haproxy` becomes HAProxy."""

from pathlib import Path

import pytest

from serve_app.instance.haproxy import configuration_file
from serve_app.instance.haproxy_directives import UnexpectedConfiguration

FILE = "/run/haproxy.cfg"


@pytest.mark.parametrize(
    "more", [[], ["-dR"], ["-sf", "12"], ["-dR", "-sf", "12", "13", "-x", "/run/admin"]], ids=" ".join
)
def test_ray_starts_haproxy_with_one_file(more: list[str]) -> None:
    assert configuration_file(["-db", "-f", FILE, *more]) == Path(FILE)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-db"],
        [FILE],
        ["--", FILE],
        ["-f", FILE, "-f", "/run/more.cfg"],
        ["-f", FILE, "--", "/run/more.cfg"],
        ["-f", FILE, "-W", "-S", ":9999"],
        ["-f", FILE, "-sf", "12", "-C", "/run"],
    ],
    ids=" ".join,
)
def test_a_file_that_would_not_be_changed_is_refused(arguments: list[str]) -> None:
    with pytest.raises(UnexpectedConfiguration):
        configuration_file(arguments)

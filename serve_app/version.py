"""The version of this installation, which pyproject.toml defines."""

from importlib.metadata import version

VERSION = version("tiger")

"""The version of this installation. Its one source is pyproject.toml."""

from importlib.metadata import version

VERSION = version("tiger")

"""Ensures that vLLM's processes run with all our plugins.

vLLM logs a plugin that cannot be imported, and goes on without it. It also leaves out plugins that
`VLLM_PLUGINS` does not name. Without ours, requests of different users would not be kept apart. A replica
therefore checks them before it starts its engine, whose processes have the same environment.
"""

import os
from collections.abc import Mapping
from importlib.metadata import entry_points

GROUP = "vllm.general_plugins"
PREFIX = "tiger_"
VARIABLE = "VLLM_PLUGINS"
"""The variable with the names of the plugins that vLLM may load. Without it, vLLM loads all."""
PLUGINS = ("bounded_grammar", "finite_numbers", "grouped_lora", "parent_watch", "patient_wait")
"""Our plugins, by their modules. In pyproject.toml their names begin with PREFIX."""


def require_plugins(environment: Mapping[str, str] = os.environ) -> None:
    """Imports all our plugins, as vLLM does.

    Raises: RuntimeError if vLLM would not load one of them; any error of importing one.
    """
    installed = {plugin.name: plugin for plugin in entry_points(group=GROUP)}
    allowed = environment[VARIABLE].split(",") if VARIABLE in environment else list(installed)
    for name in (PREFIX + module for module in PLUGINS):
        if name not in installed:
            raise RuntimeError(f"vLLM's plugin {name} is not installed: install this package")
        if name not in allowed:
            raise RuntimeError(f"{VARIABLE} leaves out {name}: remove the variable")
        installed[name].load()

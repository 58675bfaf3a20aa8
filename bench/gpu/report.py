"""The report of a run. It is written again after every row, so an interrupted run keeps its figures."""

import json
from pathlib import Path
from typing import Any


class Report:
    """A JSON file with a head and the states, figures and errors of the parts of a run."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        self._values: dict[str, Any] = {**head, "parts": {}}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def begin(self, part: str) -> None:
        self._part(part)["state"] = "running"
        self._write()

    def put(self, part: str, name: str, value: Any) -> None:
        """Add a row to a part, and print it. Raises: TypeError if it is no JSON."""
        text = json.dumps(value)
        self._part(part).setdefault("rows", {})[name] = value
        self._write()
        print(f"{part}: {name}: {text}", flush=True)

    def end(self, part: str, state: str, **details: Any) -> None:
        """Note how a part ended: measured, failed, interrupted or skipped."""
        self._part(part).update(state=state, **details)
        self._write()
        print(f"{part}: {state} {json.dumps(details)}", flush=True)

    def state(self, part: str) -> str | None:
        found: str | None = self._values["parts"].get(part, {}).get("state")
        return found

    @property
    def states(self) -> dict[str, str]:
        return {name: values["state"] for name, values in self._values["parts"].items()}

    def _part(self, part: str) -> dict[str, Any]:
        values: dict[str, Any] = self._values["parts"].setdefault(part, {})
        return values

    def _write(self) -> None:
        replace_json(self.path, self._values)


def replace_json(path: Path, values: dict[str, Any]) -> None:
    """Replace a file by `values` at once. A reader, or a copy of it, never sees a half of it."""
    partial = path.with_name(f".{path.name}.new")
    partial.write_text(json.dumps(values, indent=2) + "\n")
    partial.replace(path)

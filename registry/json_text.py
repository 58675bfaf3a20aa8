"""JSON without spaces, on one line. Every answer and stored record that we format ourselves has this form."""

import json
from typing import Any


def compact_json(value: Any, ascii_only: bool = False) -> str:
    """Returns `value` as JSON. `ascii_only` escapes all characters that are not ASCII."""
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))

"""Records of private models for tests that do not care about most of their fields."""

from typing import Any

from registry.records import Defaults, ModelRecord, generate_uid, utc_now


def model_record(**fields: Any) -> ModelRecord:
    """A private model called "Mine", which is a copy of the base model `base`. `fields` are set over that."""
    now = utc_now()
    ordinary = {
        "uid": generate_uid(),
        "id": "mine",
        "name": "Mine",
        "description": "",
        "base_model": "base",
        "parent_model": "Base",
        "rank": 8,
        "alpha": 16,
        "dropout": 0,
        "defaults": Defaults(),
        "created": now,
        "last_modified": now,
    }
    return ModelRecord(**(ordinary | fields))

"""The names of models that fine-tuning jobs make: from the copied model, the suffix, and a unique text."""

import hashlib
import secrets

from registry.records import model_id_from_name

MAX_PART_CHARACTERS = 24
SEEDS = 2**31


def unique_text(user: str, idempotency_key: str | None) -> str:
    """Returns 32 random hexadecimal digits. They are the same for each request with this key."""
    if idempotency_key is None:
        return secrets.token_hex(16)
    return hashlib.sha256(f"fine-tuning {user} {idempotency_key}".encode()).hexdigest()[:32]


def model_name(parent: str, suffix: str | None, unique: str) -> str:
    """Returns a name that is valid as an id too, so that the model gets it as its id."""
    parts = [parent] if suffix is None else [parent, suffix]
    return "-".join([*map(_short, parts), unique[:8]])


def chosen_seed(unique: str) -> int:
    return int(unique[-8:], 16) % SEEDS


def _short(text: str) -> str:
    return model_id_from_name(text)[:MAX_PART_CHARACTERS].strip("-.")

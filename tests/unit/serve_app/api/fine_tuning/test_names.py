"""The names of models that jobs make are valid names and ids. A repeated request gets the same one."""

import pytest
from pydantic import TypeAdapter

from registry.records import model_id_from_name
from serve_app.api.fine_tuning.names import SEEDS, chosen_seed, model_name, unique_text
from serve_app.wire.models import Name

UNIQUE = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("parent", "suffix", "name"),
    [
        ("smollm2-135m", None, "smollm2-135m-01234567"),
        ("smollm2-135m", "My Bot", "smollm2-135m-my-bot-01234567"),
        ("x" * 64, "y" * 64, f"{'x' * 24}-{'y' * 24}-01234567"),
        ("base", "@../..", "base-model-01234567"),
        ("base", "\u4e2d\u6587", "base-model-01234567"),
    ],
)
def test_name_is_an_id(parent: str, suffix: str | None, name: str) -> None:
    found = model_name(parent, suffix, UNIQUE)
    assert found == name == model_id_from_name(name)
    assert TypeAdapter(Name).validate_python(found) == name


def test_only_requests_with_the_same_key_are_the_same() -> None:
    assert unique_text("alice", "key") == unique_text("alice", "key")
    assert unique_text("alice", "key") != unique_text("bob", "key")
    assert unique_text("alice", None) != unique_text("alice", None)
    assert all(0 <= chosen_seed(unique_text("alice", str(number))) < SEEDS for number in range(100))

"""Choices between replicas with and without an adapter, by the numbers of their requests in progress."""

import pytest

from serve_app.model_server.adapter_router import much_idler


@pytest.mark.parametrize(
    ("num_in_progress", "having", "chosen"),
    [
        ({"a": 3, "b": 0}, ["a"], None),
        ({"a": 4, "b": 0}, ["a"], "b"),
        ({"a": 9, "b": 7, "c": 5}, ["a"], "c"),
        ({"a": 9, "b": 1, "c": 0}, ["a", "b"], None),
        ({"a": 9, "b": 8}, ["a", "b"], None),
        ({"a": 0, "b": 9}, ["a"], None),
        ({"a": 9, "b": 0}, [], None),
        ({"a": 9}, ["a"], None),
    ],
)
def test_busy_adapter_goes_to_the_idlest_replica(
    num_in_progress: dict[str, int], having: list[str], chosen: str | None
) -> None:
    assert much_idler(num_in_progress, having, max_lead=4) == chosen

"""The waits that `tiger status` shows, from placement groups as the Ray dashboard lists them."""

from typing import Any

from serve_app.deployment_options import APPLICATION, model_server_name
from serve_app.instance.waits import waits_of
from training.runs import groups_of

NOW_S = 1_800_000_000.0


def group(name: str, age_s: float, *bundles: dict[str, float]) -> dict[str, Any]:
    """A group in the form of the dashboard, which writes 64-bit integers as texts."""
    return {
        "name": name,
        "bundles": [{"unit_resources": bundle} for bundle in bundles],
        "stats": {"creation_request_received_ns": str(int((NOW_S - age_s) * 1e9))},
    }


def test_waits_of_the_application_with_their_ages() -> None:
    found = waits_of(
        [
            group(f"SERVE_REPLICA::{APPLICATION}#{model_server_name('one')}#x1", 5, {"CPU": 1, "GPU": 1}),
            group(f"{groups_of(APPLICATION, 'qwen2.5-1b')}12ab", 42, {"GPU": 1}, {"GPU": 1, "CPU": 0}),
        ],
        NOW_S,
    )
    assert [(wait.subject, wait.as_text()) for wait in found] == [
        ("training of qwen2.5-1b", "for 2 GPU, since 42 s"),
        ("ModelServer:one", "for 1 CPU and 1 GPU, since 5 s"),
    ]


def test_groups_of_others_are_left_out() -> None:
    names = ("", "somebody", "SERVE_REPLICA::another#Deployment#x1", f"{groups_of('another', 'one')}12ab")
    assert waits_of([group(name, 1, {"GPU": 1}) for name in names], NOW_S) == ()

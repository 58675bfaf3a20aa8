"""The aims of the measurements on a GPU, beside what was measured."""

from collections.abc import Mapping
from typing import Any

from bench.gpu.measures import ratio

AIM_AT_ONCE = 64
MOST_ADDED_MS = 5.0
LEAST_TOKENS_RATIO = 0.97
LEAST_OF_BASE = 0.85
LEAST_OF_ONE_LESS = 0.9
MOST_FIRST_OVER_WARM_MS = 150.0


def aim(measured: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """A measured value beside its aim, and whether the aim is met."""
    bounds = {"at_least": at_least, "at_most": at_most}
    is_met = (at_least is None or measured >= at_least) and (at_most is None or measured <= at_most)
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return {"measured": measured, **given, "is_met": is_met}


def serving_aims(
    first_token: Mapping[str, Any], level: Mapping[str, Any] | None, baseline: str
) -> dict[str, Any]:
    """The time that our APIs add to a first token, and their tokens a second at AIM_AT_ONCE requests."""
    found = {}
    for name in (name for name in first_token if name != baseline):
        added_ms = first_token[name]["added_ms"]
        found[f"{name}: ms added to a first token"] = aim(added_ms, at_most=MOST_ADDED_MS)
        if level is not None:
            tokens_ratio = level[name]["output_tokens_ratio"]
            found[f"{name}: tokens a second at {AIM_AT_ONCE}"] = aim(
                tokens_ratio, at_least=LEAST_TOKENS_RATIO
            )
    return found


def adapter_aims(levels: Mapping[int, Any]) -> dict[str, Any]:
    """The tokens a second with one adapter, and with 33 adapters compared with 32."""
    of_base = {number: level["adapters"]["output_tokens_ratio"] for number, level in levels.items()}
    found = {}
    if 1 in of_base:
        found["1 adapter: tokens a second, of the base model's"] = aim(of_base[1], at_least=LEAST_OF_BASE)
    if 32 in of_base and 33 in of_base:
        of_one_less = ratio(of_base[33], of_base[32]) or 0.0
        found["33 adapters: tokens a second, of those of 32"] = aim(of_one_less, at_least=LEAST_OF_ONE_LESS)
    return found


def first_ask_aim(first: Mapping[str, Any]) -> dict[str, Any]:
    return aim(first["over_warm_p50_ms"], at_most=MOST_FIRST_OVER_WARM_MS)

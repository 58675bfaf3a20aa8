"""The checks of what shares one GPU, and their messages."""

from dataclasses import replace

import pytest

from serve_app.gpu_shares import GpuShare, check_shares

ONE = GpuShare(
    base_model="one",
    num_replicas=1,
    gpus_per_replica=0.25,
    serving_memory=0.42,
    num_workers=1,
    gpus_per_worker=0.25,
    training_memory=0.4,
    takes_turns=True,
)
OTHER = replace(ONE, base_model="other")
WHOLE = replace(
    ONE,
    gpus_per_replica=1,
    gpus_per_worker=1,
    serving_memory=None,
    training_memory=1,
    takes_turns=False,
)
NONE = replace(WHOLE, gpus_per_replica=0, gpus_per_worker=0)


@pytest.mark.parametrize(
    "shares",
    [
        [ONE, OTHER],
        [WHOLE, replace(WHOLE, base_model="other")],
        [ONE, replace(WHOLE, base_model="other")],
        [NONE, replace(NONE, base_model="other", takes_turns=True)],
        [replace(ONE, takes_turns=False, serving_memory=0.6)],
        [replace(ONE, gpus_per_replica=0.1 + 0.2, gpus_per_worker=0.7)],
    ],
    ids=["two in turns", "whole GPUs", "one in turns beside whole GPUs", "CPUs", "side by side", "rounding"],
)
def test_what_fits_is_accepted(shares: list[GpuShare]) -> None:
    check_shares(shares)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (
            [ONE, replace(OTHER, gpus_per_replica=0.75)],
            r"gpus_per_replica of one \(0\.25\).*gpus_per_replica of other \(0\.75\).*add up to 1\.5 GPUs",
        ),
        ([replace(ONE, num_replicas=4, serving_memory=0.1)], r"gpus_per_replica of one \(1\).*1\.25 GPUs"),
        (
            [ONE, replace(OTHER, serving_memory=0.6)],
            r"one \(0\.42\), other \(0\.6\) need 1\.02 of the memory",
        ),
        ([ONE, replace(OTHER, training_memory=1)], r"other \(1\) need 1\.42 of the memory"),
        ([replace(ONE, takes_turns=False, serving_memory=0.7)], r"one \(1\.1\) need 1\.1 of the memory"),
        ([replace(ONE, serving_memory=None)], r"gpu_memory_utilization of one must be set"),
        ([replace(WHOLE, takes_turns=True)], r"gpus_per_replica and gpus_per_worker of one must be below 1"),
        ([replace(ONE, gpus_per_worker=0)], r"they are 0\.25 and 0"),
    ],
)
def test_the_message_names_what_does_not_fit(shares: list[GpuShare], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_shares(shares)

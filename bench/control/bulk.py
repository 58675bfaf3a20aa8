"""Makes many writes to the bucket at once."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

NUM_THREADS = 16
NUM_REPORTS = 20

T = TypeVar("T")


def write_all(what: str, items: Sequence[T], write: Callable[[T], object]) -> float:
    """Call `write` for each of `items`, and print the progress now and then; returns the seconds it took.

    Raises: the first error of a `write`. Writes that have not begun by then are left out.
    """
    start = time.perf_counter()
    every = max(len(items) // NUM_REPORTS, 1)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for number, _ in enumerate(pool.map(write, items), 1):
            if number % every == 0 or number == len(items):
                print(f"{what}: {number} of {len(items)}, {time.perf_counter() - start:.0f} s", flush=True)
    return time.perf_counter() - start

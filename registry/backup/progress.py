"""Tells the operator how far a backup or a restore is."""

import threading
import time
from collections.abc import Callable

INTERVAL_S = 5.0
STEP = 1000

Report = Callable[[str], None]


class Progress:
    """Counts objects and bytes, and reports them every few seconds. `total` is put behind each report."""

    def __init__(self, report: Report, total: str = "", interval_s: float = INTERVAL_S) -> None:
        self._report = report
        self._total = total
        self._interval_s = interval_s
        self._num_objects = 0
        self._size_bytes = 0
        self._reported_at = time.monotonic()
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        with self._lock:
            self._num_objects += 1
            self._size_bytes += size_bytes
            if time.monotonic() - self._reported_at >= self._interval_s:
                self._reported_at = time.monotonic()
                self._report(f"{amount(self._num_objects, self._size_bytes)}{self._total}")


def amount(num_objects: int, size_bytes: int) -> str:
    """Text such as `12 objects, 3.4 MB`."""
    size, units = float(size_bytes), ["bytes", "kB", "MB", "GB"]
    while size >= STEP and len(units) > 1:
        size, units = size / STEP, units[1:]
    shown = f"{size:.0f}" if units[0] == "bytes" else f"{size:.1f}"
    return f"{num_objects} object{'' if num_objects == 1 else 's'}, {shown} {units[0]}"

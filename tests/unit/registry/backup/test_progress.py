"""The lines that tell how far a backup is."""

import pytest

from registry.backup.progress import Progress, amount


@pytest.mark.parametrize(
    ("num_objects", "size_bytes", "text"),
    [
        (1, 0, "1 object, 0 bytes"),
        (2, 999, "2 objects, 999 bytes"),
        (3, 3_400_000, "3 objects, 3.4 MB"),
        (4, 5_000_000_000_000, "4 objects, 5000.0 GB"),
    ],
)
def test_amount(num_objects: int, size_bytes: int, text: str) -> None:
    assert amount(num_objects, size_bytes) == text


def test_sums_are_reported_when_the_interval_is_over() -> None:
    lines: list[str] = []
    progress = Progress(lines.append, " so far", interval_s=0)
    progress.add(1000)
    progress.add(500)
    assert lines == ["1 object, 1.0 kB so far", "2 objects, 1.5 kB so far"]
    Progress(lines.append, interval_s=3600).add(1)
    assert len(lines) == 2

import os
from pathlib import Path

from bench.gpu.logs import MAX_BYTES, MAX_FILES, copy_ends


def test_ends_of_the_newest_files_are_copied(tmp_path: Path) -> None:
    paths = [tmp_path / f"worker-{number}.out" for number in range(MAX_FILES + 2)]
    for number, path in enumerate(paths):
        path.write_text(f"{number}")
        os.utime(path, (number, number))
    paths[-1].write_bytes(b"a" + b"b" * MAX_BYTES)
    (tmp_path / "empty.err").touch()
    copy_ends([*paths, tmp_path / "empty.err", tmp_path / "missing.out"], tmp_path / "logs")
    copied = {path.name for path in (tmp_path / "logs").iterdir()}
    assert copied == {path.name for path in paths[2:]}
    assert (tmp_path / "logs" / paths[-1].name).read_bytes() == b"b" * MAX_BYTES

"""Finds the logs of an instance and of Ray, and copies their ends beside the results."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from serve_app.instance.log_files import log_files
from serve_app.instance.ray_head import ray_directory

MAX_FILES = 60
MAX_BYTES = 200_000


def worker_logs(home: Path) -> list[Path]:
    """The output of Ray's workers, in which vLLM and the trainer write."""
    session = ray_directory(home) / "session_latest" / "logs"
    return sorted([*session.glob("worker-*.out"), *session.glob("worker-*.err")])


def worker_lines(home: Path) -> Iterator[str]:
    for path in worker_logs(home):
        yield from path.read_text(errors="replace").splitlines()


def copy_logs(home: Path, folder: Path) -> None:
    """Copy the ends of the logs of an instance, of the files that were written last."""
    serve = (ray_directory(home) / "session_latest" / "logs" / "serve").glob("replica_*.log")
    copy_ends([*log_files(home, None), *serve, *worker_logs(home)], folder)


def copy_ends(paths: Iterable[Path], folder: Path) -> None:
    """Copy the last bytes of the files that have any, at most MAX_FILES, the newest ones."""
    written = {path for path in paths if path.is_file() and path.stat().st_size}
    newest = sorted(written, key=lambda path: path.stat().st_mtime, reverse=True)[:MAX_FILES]
    folder.mkdir(parents=True, exist_ok=True)
    for path in newest:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - MAX_BYTES, 0))
            (folder / path.name).write_bytes(file.read())

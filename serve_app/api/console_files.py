"""The files of the console, in memory: pages for browsers that use the API like any other client.

    index.html       ->  asked for again at every visit; it names the digest of all files, and all modules
    <digest>/<file>  ->  kept by browsers for ever, because other contents have another digest

The digest is in the path, so modules import each other by relative paths. No path of a request reaches the
file system: a name that is not in the table is not found.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

DIRECTORY = Path(__file__).with_name("console")
INDEX = "index.html"
DIGEST_PLACE = b"{digest}"
"""The text of the index in whose place the digest comes."""
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
"""The media types by the endings of the files. Files with other endings are not served."""
CLASSIC_SCRIPT = "theme.js"
"""The script that is no module: it runs before the first paint."""
MODULES_PLACE = b"{modules}"
"""The text of the index in whose place the links come that let a browser load all modules at once."""
DIGEST_CHARACTERS = 16


class ConsoleFile(NamedTuple):
    media_type: str
    content: bytes
    compressed: bytes
    etag: str


@dataclass(frozen=True)
class ConsoleFiles:
    """The index, and the other files by their paths below the console, such as `<digest>/app.js`."""

    index: ConsoleFile
    files: Mapping[str, ConsoleFile]


@cache
def console_files(directory: Path = DIRECTORY) -> ConsoleFiles:
    """Reads and compresses all files of the console."""
    contents = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix in MEDIA_TYPES
    }
    digest = _digest(contents)
    modules = "\n".join(
        f'<link rel="modulepreload" href="{digest}/{name}">'
        for name in contents
        if name.endswith(".js") and name != CLASSIC_SCRIPT
    )
    index = contents.pop(INDEX).replace(MODULES_PLACE, modules.encode())
    index = index.replace(DIGEST_PLACE, digest.encode())
    files = {f"{digest}/{name}": _file(name, content) for name, content in contents.items()}
    return ConsoleFiles(_file(INDEX, index), files)


def _digest(contents: Mapping[str, bytes]) -> str:
    """Returns a digest of the names and the contents of all files."""
    found = hashlib.sha256()
    for name, content in contents.items():
        found.update(f"{name} {len(content)} ".encode() + content)
    return found.hexdigest()[:DIGEST_CHARACTERS]


def _file(name: str, content: bytes) -> ConsoleFile:
    etag = f'"{hashlib.sha256(content).hexdigest()[:DIGEST_CHARACTERS]}"'
    return ConsoleFile(MEDIA_TYPES[Path(name).suffix], content, gzip.compress(content, 9, mtime=0), etag)

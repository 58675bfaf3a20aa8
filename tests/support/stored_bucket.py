"""Buckets that earlier releases have written, kept as archives in tests/data.

    python -m tests.support.stored_bucket tests/data/bucket-layout-N.tar.gz

makes the archive of the release that runs it: its layout is N. A change of the layout adds an archive, and no
archive is ever made again, because only the release of that time could make it. The archive of layout 0 was
made with the release that did not write `layout.json` yet.
"""

import io
import sys
import tarfile
import tempfile
from pathlib import Path

from registry.keys import ApiKeys, hash_key
from registry.layout import open_bucket
from registry.revisions import CONFIG_FILE
from registry.store import ObjectStore
from tests.support.bucket_life import WEIGHTS_FILE, Life
from tests.support.memory_s3 import memory_store

ARCHIVES = sorted((Path(__file__).resolve().parents[1] / "data").glob("bucket-layout-*.tar.gz"))
USER = "alice"
KEY = "tiger_the-key-of-the-stored-bucket"


def unpack(archive: Path, store: ObjectStore) -> None:
    """Write the objects of an archive to an empty bucket."""
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            store.put(member.name, file.read())


def _adapter(directory: Path) -> dict[str, bytes]:
    """An adapter of SmolLM2-135M with a few modules, which PEFT and vLLM load."""
    from tests.support.adapters import write_adapter

    write_adapter(directory, rank=1, layers=2, only="q_proj", target_modules=["q_proj"])
    return {name: (directory / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)}


def _fill(store: ObjectStore, directory: Path) -> None:
    """A model with two revisions, a copy of it, and trainings that succeeded, were cancelled, and wait."""
    ApiKeys(store).add(hash_key(KEY), USER, "laptop")
    life = Life(store, USER, directory / "life", seed=0, adapter=_adapter(directory / "adapter"))
    life.create()
    for is_cancelled in (False, True, False):
        life.train(life.models()[0], is_cancelled)
    life.create(life.models()[0])
    life.accept(life.models()[0])


def _pack(store: ObjectStore, archive: Path) -> None:
    with tarfile.open(archive, "x:gz") as tar:
        for key in store.list(""):
            body = store.get(key).body
            member = tarfile.TarInfo(key)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))


if __name__ == "__main__":
    made = memory_store()
    open_bucket(made)
    with tempfile.TemporaryDirectory() as scratch:
        _fill(made, Path(scratch))
    _pack(made, Path(sys.argv[1]))

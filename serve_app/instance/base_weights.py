"""Looks at the weights of all base models before anything is deployed, and downloads what is missing.

    package:...   nothing to do here: `weights.py` converts it
    /directory    the files must be there
    owner/name    the hub must give the repository, and the disk must have room for what is missing

A replica that failed for one of these reasons would be tried three times, with a minute or more for each try.
"""

import errno
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from registry.records import Record
from serve_app.instance.model_hub import (
    WEIGHT_SUFFIXES,
    Hub,
    HubUnreachable,
    Repository,
    RepositoryGated,
    RepositoryUnknown,
)
from serve_app.instance.processes import InstanceError, Report
from serve_app.settings import BaseModelSettings

SPARE_BYTES = 10**9
"""Space that stays free on the disk of the weights: kernels are compiled and logs are written there."""
FLOAT32_NAMES = ("float32", "torch.float32")
DIRECTORY_ADVICE = "download them elsewhere, and name their directory in TIGER_MODEL_PATHS"


class Weights(Record):
    """The weights of one base model as they are stored."""

    size_bytes: int
    is_float32: bool


class FoundWeights(Record):
    """The weights by the id of their base model, where their size is known, and the repositories by name."""

    by_model: dict[str, Weights]
    repositories: dict[str, Repository]


def is_repository(source: str) -> bool:
    return not source.startswith(("package:", "/"))


def free_bytes(directory: Path) -> int:
    """Returns the free space of the disk on which `directory` is or will be."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(existing).free


class BaseWeights:
    def __init__(self, hub: Hub, free_bytes: Callable[[Path], int] = free_bytes) -> None:
        self._hub = hub
        self._free_bytes = free_bytes

    def check(self, models: Sequence[BaseModelSettings], report: Report) -> FoundWeights:
        """Raises InstanceError, which names the base model and the reason, if weights cannot be loaded."""
        found: dict[str, Weights] = {}
        repositories: dict[str, Repository] = {}
        for model in models:
            if model.source.startswith("/"):
                found[model.id] = _weights_in(Path(model.source), model.id)
            elif is_repository(model.source) and (repository := self._look_up(model, report)) is not None:
                repositories[model.source] = repository
                found[model.id] = Weights(
                    size_bytes=repository.weight_bytes, is_float32=repository.is_float32
                )
        self._require_space(sum(repository.missing_bytes for repository in repositories.values()))
        return FoundWeights(by_model=found, repositories=repositories)

    def download(self, found: FoundWeights, report: Report) -> None:
        """Downloads what the cache lacks, so that no replica waits for it. Raises InstanceError."""
        for name, repository in found.repositories.items():
            if not repository.missing_bytes:
                continue
            report(f"weights: downloading {_gigabytes(repository.missing_bytes)} of {name}")
            try:
                self._hub.download(name, repository.files)
            except Exception as error:
                raise _download_failure(name, error) from error

    def _look_up(self, model: BaseModelSettings, report: Report) -> Repository | None:
        """Returns the repository of a model. None: the hub is not asked, and the cache has the weights."""
        try:
            return self._hub.look_up(model.source)
        except RepositoryGated:
            raise InstanceError(
                f"the weights of {model.id} ({model.source}) are gated: accept their licence on the hub and "
                f"set HF_TOKEN to a token of that account, or {DIRECTORY_ADVICE}"
            ) from None
        except RepositoryUnknown:
            raise InstanceError(
                f"the hub has no repository {model.source!r} for {model.id}, or HF_TOKEN does not open it: "
                "correct models[].source, or set HF_TOKEN"
            ) from None
        except HubUnreachable as error:
            if self._hub.has_in_cache(model.source):
                report(
                    f"weights: the hub cannot be reached ({error}), so {model.id} has those that were "
                    "downloaded before; HF_HUB_OFFLINE=1 avoids waiting for it"
                )
                return None
            raise InstanceError(
                f"the weights of {model.id} ({model.source}) are not on this machine, and the model hub "
                f"cannot be reached ({error}): {DIRECTORY_ADVICE}"
            ) from None

    def _require_space(self, missing_bytes: int) -> None:
        directory = self._hub.cache_directory
        if not missing_bytes:
            return
        free = self._free_bytes(directory)
        if free < missing_bytes + SPARE_BYTES:
            raise InstanceError(
                f"the weights need {_gigabytes(missing_bytes)} more on the disk of {directory}, and "
                f"{_gigabytes(free)} are free: make room, or set HF_HOME to a directory on a larger disk"
            )


def _weights_in(directory: Path, model_id: str) -> Weights:
    where = f"the weights of {model_id} (models[].source or TIGER_MODEL_PATHS): {directory}"
    if not directory.is_dir():
        raise InstanceError(f"{where} is not a directory")
    if not (directory / "config.json").is_file():
        raise InstanceError(f"{where} has no config.json")
    files = next(filter(None, (sorted(directory.glob(f"*{suffix}")) for suffix in WEIGHT_SUFFIXES)), [])
    if not files:
        raise InstanceError(f"{where} has no *.safetensors")
    missing = _shards(directory) - {file.name for file in files}
    if missing:
        raise InstanceError(f"{where} has no {min(missing)}, which its index names")
    config = json.loads((directory / "config.json").read_text())
    return Weights(
        size_bytes=sum(file.stat().st_size for file in files),
        is_float32=config.get("dtype", config.get("torch_dtype")) in FLOAT32_NAMES,
    )


def _shards(directory: Path) -> set[str]:
    """Returns the names of the files that the index of a model in several files lists."""
    index = directory / "model.safetensors.index.json"
    return set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else set()


def _download_failure(name: str, error: Exception) -> InstanceError:
    first_line = str(error).partition("\n")[0]
    is_full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    reason = "the disk is full" if is_full else f"{type(error).__name__}: {first_line}"
    return InstanceError(
        f"{name} could not be downloaded: {reason}. What was downloaded stays, and `tiger up` "
        "continues with it"
    )


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"

"""Repositories of the Hugging Face hub: which files of weights they have, and their download into the cache.

`Hub` is the seam for tests. `HuggingFaceHub` is the real hub, as huggingface_hub's variables describe it
(HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from registry.records import Record

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

# In the order in which vLLM prefers them. It loads the first kind that a repository has.
WEIGHT_SUFFIXES = (".safetensors", ".bin")
OTHER_SUFFIXES = (".json", ".jinja", ".model", ".txt")


class RepositoryUnknown(Exception):
    """The repository does not exist, or it is private and the token does not open it."""


class RepositoryGated(Exception):
    """The repository exists, and its owner has not given access to this token, or there is no token."""


class HubUnreachable(Exception):
    """The hub does not answer, or HF_HUB_OFFLINE forbids to ask it."""


class Repository(Record):
    """The files of a repository that a replica and a training worker need."""

    files: tuple[str, ...]
    weight_bytes: int
    missing_bytes: int
    """The size of the files that are not in the cache yet."""
    is_float32: bool


class Hub(Protocol):
    """The hub, as far as it is used here."""

    @property
    def cache_directory(self) -> Path:
        """The directory of downloaded files, which may not exist yet."""

    def look_up(self, name: str) -> Repository:
        """Raises: RepositoryUnknown, RepositoryGated, HubUnreachable."""

    def has_in_cache(self, name: str) -> bool:
        """True if the weights were downloaded before."""

    def download(self, name: str, files: tuple[str, ...]) -> None:
        """Downloads what is missing. Raises: OSError, and what huggingface_hub raises."""


class HuggingFaceHub:
    """The hub at `endpoint`, with downloads in `cache_directory`. None: as the environment says."""

    def __init__(self, endpoint: str | None = None, cache_directory: Path | None = None) -> None:
        self._endpoint = endpoint
        self._cache_directory = cache_directory

    @property
    def cache_directory(self) -> Path:
        from huggingface_hub import constants

        return self._cache_directory or Path(constants.HF_HUB_CACHE)

    def look_up(self, name: str) -> Repository:
        from httpx2 import HTTPError
        from huggingface_hub import HfApi, try_to_load_from_cache
        from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

        api = HfApi(endpoint=self._endpoint)
        try:
            found = api.model_info(name, files_metadata=True)
            # A gated repository shows its files to everyone, and gives them to few.
            api.auth_check(name)
        except GatedRepoError as error:
            raise RepositoryGated(name) from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise RepositoryUnknown(name) from error
        except (HTTPError, ConnectionError) as error:
            raise HubUnreachable(type(error).__name__) from error
        sizes = _needed_files(found)
        missing = [
            size
            for file, size in sizes.items()
            if not isinstance(
                try_to_load_from_cache(name, file, cache_dir=self.cache_directory, revision=found.sha), str
            )
        ]
        return Repository(
            files=tuple(sizes),
            weight_bytes=sum(size for file, size in sizes.items() if file.endswith(WEIGHT_SUFFIXES)),
            missing_bytes=sum(missing),
            is_float32=found.safetensors is not None and set(found.safetensors.parameters) == {"F32"},
        )

    def has_in_cache(self, name: str) -> bool:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        patterns = [f"*{suffix}" for suffix in (WEIGHT_SUFFIXES[0], *OTHER_SUFFIXES)]
        try:
            directory = snapshot_download(
                name,
                cache_dir=self.cache_directory,
                local_files_only=True,
                allow_patterns=patterns,
                ignore_patterns=["*/*"],
            )
        except LocalEntryNotFoundError:
            return False
        return any(path.suffix in WEIGHT_SUFFIXES for path in Path(directory).iterdir())

    def download(self, name: str, files: tuple[str, ...]) -> None:
        from huggingface_hub import snapshot_download

        snapshot_download(
            name,
            cache_dir=self.cache_directory,
            endpoint=self._endpoint,
            allow_patterns=list(files),
        )


def _needed_files(found: "ModelInfo") -> dict[str, int]:
    """Returns the files that vLLM and transformers load, with their sizes. They load none in folders."""
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or () if "/" not in file.rfilename}
    kinds = (suffix for suffix in WEIGHT_SUFFIXES if any(file.endswith(suffix) for file in sizes))
    suffixes = (next(kinds, WEIGHT_SUFFIXES[0]), *OTHER_SUFFIXES)
    return {file: size for file, size in sizes.items() if file.endswith(suffixes)}

"""A model hub in memory."""

from pathlib import Path

from serve_app.instance.model_hub import HubUnreachable, Repository

REPOSITORY = Repository(
    files=("config.json", "model.safetensors"),
    weight_bytes=16 * 10**9,
    missing_bytes=16 * 10**9,
    is_float32=False,
)


class FakeHub:
    """A hub that answers with `answer`, or raises it. `cached` names what was downloaded before."""

    def __init__(
        self,
        answer: Repository | Exception = REPOSITORY,
        cached: tuple[str, ...] = (),
        download_error: Exception | None = None,
    ) -> None:
        self._answer = answer
        self._cached = cached
        self._download_error = download_error
        self.downloaded: list[str] = []

    @property
    def cache_directory(self) -> Path:
        return Path("/cache")

    def look_up(self, name: str) -> Repository:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def has_in_cache(self, name: str) -> bool:
        return name in self._cached

    def download(self, name: str, files: tuple[str, ...]) -> None:
        if self._download_error is not None:
            raise self._download_error
        self.downloaded.append(name)


UNREACHABLE = HubUnreachable("ConnectError")

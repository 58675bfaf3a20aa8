"""A small project is put into a bundle, carried, and installed with the Makefile where there is no network.

pip, uv and the Makefile are the real ones. The packages are as small as they can be: a lock with one package
with digests and one without, and something in the place of torch.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from requirements.bundle import PROJECT

ROOT = Path(__file__).resolve().parents[3]
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT_FILE = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "small-project"
version = "1"
[tool.setuptools]
packages = ["registry"]
"""
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def version_of(name: str) -> str:
    (found,) = re.findall(rf"^{name} := (?:torch==)?(\S+)$", MAKEFILE, re.MULTILINE)
    return str(found)


def write_wheel(directory: Path, name: str, version: str, files: dict[str, Path | bytes]) -> Path:
    """Writes a wheel with these files, whose paths are those inside of the wheel."""
    information = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents = {
        where: source.read_bytes() if isinstance(source, Path) else source for where, source in files.items()
    }
    contents |= {f"{information}/METADATA": metadata.encode(), f"{information}/WHEEL": WHEEL.encode()}
    record = [f"{where},{_record_digest(body)},{len(body)}\n" for where, body in contents.items()]
    contents[f"{information}/RECORD"] = "".join([*record, f"{information}/RECORD,,\n"]).encode()
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for where, body in contents.items():
            member = zipfile.ZipInfo(where)
            member.external_attr = 0o100755 << 16
            archive.writestr(member, body)
    return path


def _record_digest(body: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def uv_files() -> dict[str, Path | bytes]:
    """Returns the files of the installed uv, as they are in its wheel."""
    found = distribution("uv")
    sources = {str(file): Path(str(file.locate())) for file in found.files or () if file.suffix == ".py"}
    program = Path(sys.executable).with_name("uv")
    return {**sources, f"uv-{found.version}.data/scripts/uv": program}


def setuptools_files() -> dict[str, Path | bytes]:
    """Returns the files of the installed setuptools, by which the project is installed."""
    return {
        str(file): Path(str(file.locate()))
        for file in distribution("setuptools").files or ()
        if "__pycache__" not in file.parts and (".dist-info" not in str(file) or file.stem == "entry_points")
    }


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A directory with the wheels that the package index of the connected machine has."""
    directory = tmp_path / "index"
    directory.mkdir()
    assert distribution("uv").version == version_of("UV_VERSION")
    write_wheel(directory, "uv", version_of("UV_VERSION"), uv_files())
    write_wheel(directory, "setuptools", distribution("setuptools").version, setuptools_files())
    write_wheel(directory, "torch", version_of("TORCH"), {"torch.py": b""})
    write_wheel(directory, "plain", "1.0", {"plain.py": b""})
    write_wheel(directory, "hashed", "2.0", {"hashed.py": b""})
    return directory


@pytest.fixture
def checkout(tmp_path: Path, index: Path) -> Path:
    """A checkout of a small project that is installed with the real Makefile."""
    directory = tmp_path / "checkout"
    directory.mkdir()
    for name in PROJECT:
        if (ROOT / name).is_dir():
            (directory / name).mkdir()
        else:
            (directory / name).touch()
    shutil.copy(ROOT / "Makefile", directory / "Makefile")
    (directory / "pyproject.toml").write_text(PROJECT_FILE)
    (directory / "registry" / "__init__.py").touch()
    for name in ("__init__.py", "bundle.py"):
        shutil.copy(ROOT / "requirements" / name, directory / "requirements" / name)
    digest = hashlib.sha256((index / "hashed-2.0-py3-none-any.whl").read_bytes()).hexdigest()
    setuptools = f"setuptools=={distribution('setuptools').version}"
    hashed = f"hashed==2.0 \\\n    --hash=sha256:{digest}"
    lock = f"# A comment.\nplain==1.0\n    # via us\n{setuptools}\n{hashed}\n    # via us\n"
    (directory / "requirements" / "cpu.txt").write_text(lock)
    return directory


def run(directory: Path, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with an environment in which nothing is said of package indexes but by `variables`."""
    environment = {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.defpath)),
        "HOME": str(directory.parent),
        "PIP_CONFIG_FILE": os.devnull,
        **variables,
    }
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300
    )


def without_a_network(directory: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return run(directory, sys.executable, "-m", "tests.support.loopback", *command, PYTHONPATH=str(ROOT))


def test_project_is_installed_from_a_bundle_without_a_network(
    tmp_path: Path, checkout: Path, index: Path
) -> None:
    bundle = tmp_path / "bundle"
    made = run(
        checkout, "make", "bundle", "PROFILE=cpu", f"BUNDLE={bundle}", f"PYTHON={sys.executable}",
        PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index),
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    assert "is complete; the digest of its SHA256SUMS is " in made.stdout
    assert {path.name for path in (bundle / "wheels").iterdir()} == {path.name for path in index.iterdir()}
    # The connected machine and its index are gone.
    shutil.rmtree(index)
    shutil.rmtree(checkout)
    with tarfile.open(bundle / "tiger.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    project = tmp_path / "tiger"
    install = ("make", "install", "PROFILE=cpu", f"BUNDLE={bundle}", f"PYTHON={sys.executable}")

    torch = next((bundle / "wheels").glob("torch*"))
    whole = torch.read_bytes()
    torch.write_bytes(whole[:-1] + b"x")
    refused = without_a_network(project, *install)
    assert refused.returncode != 0 and f"wheels/{torch.name} differs from its digest" in refused.stderr
    assert not (project / ".venv").exists()

    torch.write_bytes(whole)
    installed = without_a_network(project, *install)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert (project / ".venv" / ".installed").exists()
    seen = run(tmp_path, str(project / ".venv/bin/python"), "-c", "import torch, plain, hashed, registry")
    assert seen.returncode == 0, seen.stderr

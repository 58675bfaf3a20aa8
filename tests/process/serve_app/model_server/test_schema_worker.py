"""The process that compiles schemas enforces what it accepts, and too much work ends only a fork of it."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from llguidance import LLMatcher, LLTokenizer

from serve_app.model_server.schema_worker import (
    LIMITS,
    MAX_WALL_S,
    REGEX,
    TOO_LARGE,
    TOO_LONG,
    Question,
    TokenizerText,
    any_token,
    compile_schemas,
    reply_to,
)
from serve_app.wire.schema_keywords import enforced_part
from tests.support.schemas import HEAVY, REFUSED_BY_COMPILING, RandomSchemas, chain, doubling

NUM_SCHEMAS = 200
NUM_ANSWERS = 2
MAX_TOKENS = 120
NUM_DRAWN = 4
"""The number of allowed tokens that are drawn. One that is not only space is used, so that answers end."""
MOST_MB = 150
"""The bound of the memory of the process, with a tokenizer of 49,152 tokens."""


@pytest.fixture(scope="module")
def tokenizer_text(smollm2_weights: Path) -> TokenizerText:
    text = (smollm2_weights / "tokenizer.json").read_text()
    return TokenizerText(json_text=text, num_tokens=49_152, end_token=2)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_text: TokenizerText) -> LLTokenizer:
    told = tokenizer_text
    return LLTokenizer(told.json_text, n_vocab=told.num_tokens, eos_token=told.end_token)


def question(*schemas: Any) -> Question:
    return Question(schemas=tuple(json.dumps(enforced_part(schema)) for schema in schemas))


def random_answer(tokenizer: LLTokenizer, schema: Any, seed: int) -> str | None:
    """A random answer of tokens that are allowed; None if it does not come to an end."""
    dice = random.Random(seed)
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(enforced_part(schema)))
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    tokens: list[int] = []
    for _ in range(MAX_TOKENS):
        mask = matcher.compute_bitmask()
        drawn = [any_token(mask, dice, tokenizer.eos_token) for _ in range(NUM_DRAWN)]
        token = max(
            drawn, key=lambda token: token is not None and not tokenizer.decode_str([token]).isspace()
        )
        assert not matcher.is_error(), (matcher.get_error(), schema)
        may_end = mask[tokenizer.eos_token // 8] >> tokenizer.eos_token % 8 & 1
        assert may_end or token is not None, schema
        if may_end and (token is None or dice.random() < 0.5):
            return str(tokenizer.decode_str(tokens))
        assert token is not None and matcher.consume_token(token)
        tokens.append(token)
    return None


def test_what_is_taken_is_held(tokenizer: LLTokenizer) -> None:
    """A validator of the standard accepts any answer that the engine could make."""
    num_taken = num_answers = 0
    for seed in range(NUM_SCHEMAS):
        schema = RandomSchemas(seed).schema()
        reply = compile_schemas(tokenizer, question(schema).schemas)
        if reply.error is not None:
            assert reply.error.startswith(("Unsatisfiable", "no answer can follow")), (reply.error, schema)
            continue
        num_taken += 1
        validator = Draft202012Validator(schema, format_checker=FormatChecker(["uuid", "ipv4"]))
        for answer in (random_answer(tokenizer, schema, seed * 100 + i) for i in range(NUM_ANSWERS)):
            if answer is not None:
                num_answers += 1
                validator.validate(json.loads(answer))
    assert num_taken > 0.8 * NUM_SCHEMAS
    assert num_answers > 0.25 * NUM_ANSWERS * num_taken


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_schema_compiles(tokenizer: LLTokenizer, name: str) -> None:
    reply = reply_to(tokenizer, question(HEAVY[name]))
    assert reply.error is None and reply.seconds > 0


@pytest.mark.parametrize("name", REFUSED_BY_COMPILING)
def test_schema_that_cannot_be_held_is_refused_in_time(tokenizer: LLTokenizer, name: str) -> None:
    started = time.monotonic()
    reply = reply_to(tokenizer, question(REFUSED_BY_COMPILING[name]))
    assert reply.error
    assert time.monotonic() - started < 2 * MAX_WALL_S


def test_too_much_work_ends_the_fork_only(tokenizer: LLTokenizer) -> None:
    """A thousand definitions overflow the stack of the process that compiles them."""
    assert reply_to(tokenizer, question(doubling(20))).error == TOO_LONG
    assert reply_to(tokenizer, question(chain(3_000))).error == TOO_LARGE
    assert reply_to(tokenizer, question({"type": "object"})).error is None


@pytest.mark.parametrize("pattern", ["[a-z]{1,20}", "(red|blue)", "[0-9]{3}-[0-9]{4}", "a*"])
def test_regular_expression_is_taken(tokenizer: LLTokenizer, pattern: str) -> None:
    assert reply_to(tokenizer, Question(schemas=(REGEX + pattern,))).error is None


@pytest.mark.parametrize(
    "pattern", ["(", "(?=a)b", "(a)\\1", "[^\\s\\S]", "(((a{1,500}){1,500}){1,500}b){3}"]
)
def test_regular_expression_that_cannot_be_held_is_refused_in_time(
    tokenizer: LLTokenizer, pattern: str
) -> None:
    started = time.monotonic()
    reply = reply_to(tokenizer, Question(schemas=(REGEX + pattern,)))
    assert reply.error and "\n" not in reply.error
    assert time.monotonic() - started < MAX_WALL_S + 1


def test_of_several_the_wrong_one_is_named(tokenizer: LLTokenizer) -> None:
    wrong = {"type": "string", "pattern": "("}
    reply = reply_to(tokenizer, question({}, {"type": "object"}, wrong, {}))
    assert reply.index == 2 and reply.error
    assert "\n" not in reply.error
    either = reply_to(tokenizer, question(REFUSED_BY_COMPILING["one of several that overlap"]))
    assert either.error and "anyOf" in either.error
    assert reply_to(tokenizer, question({}, {"type": "object"}, {})).error is None


def test_nothing_is_fetched(tokenizer: LLTokenizer) -> None:
    """The ingress refuses such a schema. If one came here, it would be an error and no connection."""
    reply = reply_to(tokenizer, question({"$ref": "http://127.0.0.1:1/schema"}))
    assert reply.error is not None and "does not fetch" in reply.error


def test_process_is_small_and_ends_with_its_stdin(tokenizer_text: TokenizerText) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "serve_app.model_server.schema_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(tokenizer_text.model_dump_json().encode() + b"\n")
        for schemas in (question({"type": "object"}), question({"type": "integer"})):
            process.stdin.write(schemas.model_dump_json().encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["error"] is None
        status = Path(f"/proc/{process.pid}/status").read_text()
        (resident,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
        assert resident / 1024 < MOST_MB
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
        assert "libtorch" not in loaded and os.path.basename("_lib.abi3.so") in loaded
        process.stdin.close()
        assert process.wait(timeout=30) == 0

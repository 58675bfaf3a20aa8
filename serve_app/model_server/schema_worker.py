"""A process that compiles JSON Schemas for llguidance. Each request is compiled in its own fork.

A regular expression may replace a schema.

    stdin: a line with the tokenizer, then a line of schemas per request
    stdout: a line per request: how many seconds of CPU time it took, or what is wrong with which schema

A schema can make llguidance work for minutes, use gigabytes or overflow the stack, which ends the process.
The kernel limits the CPU time, the time and the memory of a fork. The engine needs about the same time again
for a schema that passed, under the same LIMITS. The process ends when its stdin ends.

It loads llguidance but no model library, so it needs little more memory than the tokenizer.
"""

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from registry.records import Record

MAX_CPU_S = 0.25
MAX_WALL_S = 4.0
MAX_MEMORY = 512 * 1024 * 1024
"""The address space in bytes that a fork may add to that of the process."""
STACK_SIZE = 4 * 1024 * 1024
"""The stack of a fork in bytes: half of the stack of an engine's thread."""
NICENESS = 5
"""The priority of the process in the operating system, below that of the engine."""
NUM_WALKS = 3
WALK_TOKENS = 24

LIMITS = LLParserLimits(step_lexer_fuel=30_000, max_lexer_states=20_000, verbose_errors=False)
"""The limits of the work for one token. llguidance's default `step_lexer_fuel` allows seconds per token."""

REGEX = "/"
"""The prefix of a regular expression. No JSON text begins with it."""

TOO_LONG = "it takes too long to compile"
TOO_LARGE = "it takes too much memory to compile"
TOO_MUCH_WORK = "it takes too much work for each token of an answer"


class TokenizerText(Record):
    """The data of a tokenizer that llguidance needs."""

    json_text: str
    num_tokens: int
    end_token: int

    @classmethod
    def of(cls, tokenizer: Any, num_tokens: int) -> "TokenizerText":
        """Returns the data of a fast tokenizer of transformers.

        `num_tokens` is the vocabulary of the model, which may be larger than that of the tokenizer.
        """
        text = tokenizer.backend_tokenizer.to_str()
        return cls(
            json_text=text, num_tokens=max(num_tokens, len(tokenizer)), end_token=tokenizer.eos_token_id
        )


class Question(Record):
    schemas: tuple[str, ...]


class Reply(Record):
    """The result for a request.

    `error` is the reason why the schema `index` is refused, or None. Without an index, all schemas together
    are refused.
    """

    seconds: float = 0.0
    error: str | None = None
    index: int | None = None


def compile_schemas(tokenizer: LLTokenizer, schemas: Sequence[str]) -> Reply:
    """Compiles the schemas as one grammar, and tries it on a few random tokens."""
    started = time.process_time()
    error = _error_of(tokenizer, _grammar_of(schemas[0]) if len(schemas) == 1 else _grammar_of_all(schemas))
    if error is None:
        return Reply(seconds=time.process_time() - started)
    for index, schema in enumerate(schemas):
        of_one = _error_of(tokenizer, _grammar_of(schema))
        if of_one is not None:
            return Reply(error=of_one, index=index)
    return Reply(error=error)


def _grammar_of(schema: str) -> str:
    if schema.startswith(REGEX):
        return str(LLMatcher.grammar_from_regex(schema.removeprefix(REGEX)))
    return str(LLMatcher.grammar_from_json_schema(schema))


def _grammar_of_all(schemas: Sequence[str]) -> str:
    """Returns a grammar that accepts any of several schemas. They are of tools, so none is a pattern."""
    rules = "\n".join(f"s{index}: %json {schema}" for index, schema in enumerate(schemas))
    choice = " | ".join(f"s{index}" for index in range(len(schemas)))
    return str(LLMatcher.grammar_from_lark(f"%llguidance {{}}\nstart: {choice}\n{rules}\n"))


def _error_of(tokenizer: LLTokenizer, grammar: str) -> str | None:
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    if matcher.is_error():
        return _in_short(matcher.get_error())
    for seed in range(NUM_WALKS):
        walk = matcher.deep_copy()
        dice = random.Random(seed)
        for _ in range(WALK_TOKENS):
            token = any_token(walk.compute_bitmask(), dice, tokenizer.eos_token)
            if token is not None and not walk.is_error():
                walk.consume_token(token)
            if walk.is_error():
                is_much = any(sign in walk.get_error() for sign in ("too many", "max is"))
                return TOO_MUCH_WORK if is_much else "no answer can follow it"
            if token is None:
                break
    return None


def any_token(mask: bytes, dice: random.Random, end_token: int) -> int | None:
    """Returns a random allowed token other than the end token; None: there is none."""
    start = dice.randrange(len(mask))
    for offset in range(len(mask)):
        place = (start + offset) % len(mask)
        for bit in range(8) if mask[place] else ():
            token = place * 8 + bit
            if mask[place] >> bit & 1 and token != end_token:
                return token
    return None


def _in_short(error: str) -> str:
    """Shortens an error of llguidance: without drawings of a pattern, and without advice for its callers."""
    if error.startswith("oneOf constraints"):
        return "`oneOf` is supported only if its branches exclude each other; use `anyOf`"
    first, *rest = error.splitlines() or [""]
    last = [line for line in rest if line.startswith("error: ")][-1:]
    return " ".join([first, *last])[:200]


def reply_to(tokenizer: LLTokenizer, question: Question) -> Reply:
    """Returns the reply of a fork. If the kernel ended the fork, it returns the reason."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _limit_this_process()
            os.write(writing, compile_schemas(tokenizer, question.schemas).model_dump_json().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if answer:
        return Reply.model_validate_json(answer)
    is_late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
    return Reply(error=TOO_LONG if is_late else TOO_LARGE)


def _limit_this_process() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_STACK, (STACK_SIZE, STACK_SIZE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_PROF, MAX_CPU_S)  # without a handler, the signal ends the process
    signal.setitimer(signal.ITIMER_REAL, MAX_WALL_S)


def main() -> None:
    lines: Any = iter(sys.stdin.buffer.readline, b"")
    os.nice(NICENESS)
    told = TokenizerText.model_validate_json(next(lines))
    tokenizer = LLTokenizer(told.json_text, n_vocab=told.num_tokens, eos_token=told.end_token)
    del told
    for line in lines:
        reply = reply_to(tokenizer, Question.model_validate_json(line))
        sys.stdout.write(json.dumps(reply.model_dump()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

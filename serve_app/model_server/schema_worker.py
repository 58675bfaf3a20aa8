"""A process that compiles JSON Schemas for llguidance, each in a fork of its own that can be ended.

A regular expression may stand in the place of a schema.

    stdin: a line with the tokenizer, then a line of schemas per request
    stdout: a line per request: how many seconds of CPU time it took, or what is wrong with which schema

A schema can make llguidance work for minutes, take gigabytes or overflow the stack, which ends the process.
In the fork the kernel ends such work: by CPU time, by time, by memory. What got through once takes the engine
as long again, under the same LIMITS. The process ends when its stdin does.

It loads llguidance and no model library: it takes about as much memory as the tokenizer does.
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
"""Of address space, beyond what the process has."""
STACK_SIZE = 4 * 1024 * 1024
"""Half of what a thread of the engine has."""
NICENESS = 5
"""The engine's tokens come first."""
NUM_WALKS = 3
WALK_TOKENS = 24

LIMITS = LLParserLimits(step_lexer_fuel=30_000, max_lexer_states=20_000, verbose_errors=False)
"""Of the work for one token: llguidance's own `step_lexer_fuel` lets a pattern take seconds for each."""

REGEX = "/"
"""Before a regular expression; no JSON begins so."""

TOO_LONG = "it takes too long to compile"
TOO_LARGE = "it takes too much memory to compile"
TOO_MUCH_WORK = "it takes too much work for each token of an answer"


class TokenizerText(Record):
    """What llguidance has to know of a tokenizer."""

    json_text: str
    num_tokens: int
    end_token: int

    @classmethod
    def of(cls, tokenizer: Any, num_tokens: int) -> "TokenizerText":
        """Of one of transformers' fast tokenizers; `num_tokens`: of the model, which may have more."""
        text = tokenizer.backend_tokenizer.to_str()
        return cls(
            json_text=text, num_tokens=max(num_tokens, len(tokenizer)), end_token=tokenizer.eos_token_id
        )


class Question(Record):
    schemas: tuple[str, ...]


class Reply(Record):
    """`error`: None, or why the schema `index` is refused; without an index it is all of them together."""

    seconds: float = 0.0
    error: str | None = None
    index: int | None = None


def compile_schemas(tokenizer: LLTokenizer, schemas: Sequence[str]) -> Reply:
    """Compiles them as one grammar, and follows it for a few tokens."""
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
    """Of the schemas of tools, among which there is no regular expression."""
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
                return TOO_MUCH_WORK if is_much else "no answer fits it"
            if token is None:
                break
    return None


def any_token(mask: bytes, dice: random.Random, end_token: int) -> int | None:
    """One that is allowed, other than the end, from a random place on; None where there is none."""
    start = dice.randrange(len(mask))
    for offset in range(len(mask)):
        place = (start + offset) % len(mask)
        for bit in range(8) if mask[place] else ():
            token = place * 8 + bit
            if mask[place] >> bit & 1 and token != end_token:
                return token
    return None


def _in_short(error: str) -> str:
    """Without the pictures that show a place in a pattern, and without advice that nobody here can follow."""
    if error.startswith("oneOf constraints"):
        return "oneOf is held only of branches that exclude each other; anyOf is held"
    first, *rest = error.splitlines() or [""]
    last = [line for line in rest if line.startswith("error: ")][-1:]
    return " ".join([first, *last])[:200]


def reply_to(tokenizer: LLTokenizer, question: Question) -> Reply:
    """From a fork, or for it if it was ended."""
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

"""Adapters that give no finite numbers, in an engine without the check of adapters: they harm no others."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.conftest import Engine
from tests.support.adapters import POISONS, write_adapter

BLOCK = 128
LENGTHS = (1, 2, 7, 31, 32, 33, 63, 65, 96, 100, 127, 128, 129, 161, 255, 256, 257)
"""The lengths of prompts, on and beside every border of the kernel and of blocks."""
NUM_ATTACKS = 4


def token_ids(length: int, seed: int = 0) -> list[int]:
    choice = random.Random(1000 * seed + length)
    return [choice.randrange(100, 40_000) for _ in range(length)]


def scored(outputs: list[Any]) -> tuple[list[int], list[dict[int, float]]]:
    """The tokens of the last output and their exact log-probabilities."""
    sample = outputs[-1].outputs[0]
    scores = [{token: score.logprob for token, score in step.items()} for step in sample.logprobs]
    assert all(math.isfinite(score) for step in scores for score in step.values())
    return list(sample.token_ids), scores


def base_answers(engine: Engine) -> dict[int, Any]:
    """The answers of the base model.

    They are asked for one after another, because other requests of a batch change the last bits.
    """
    return {length: scored(engine.generate(token_ids(length), logprobs=3)) for length in LENGTHS}


@pytest.mark.parametrize("poison", POISONS)
def test_base_model_answers_to_the_bit_as_before(
    engine: Engine, build_lora: Callable[[Path], Any], tmp_path: Path, poison: str
) -> None:
    before = base_answers(engine)
    change_b, change_a = POISONS[poison]
    lora = build_lora(write_adapter(tmp_path / poison, change_b, change_a))
    for attack in range(NUM_ATTACKS):
        running = [engine.start(token_ids(n, attack + 1), lora) for n in (300, 257, 200, 140)]
        for done in running:
            (output,) = done.result()
            sample = output.outputs[0]
            assert (sample.finish_reason, sample.stop_reason) == ("error", "senseless")
            assert not sample.token_ids and not sample.text
    assert base_answers(engine) == before


@pytest.mark.parametrize("kind", ["CUMULATIVE", "DELTA", "FINAL_ONLY"])
@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0, "top_p": 0.9, "top_k": 50, "seed": 1},
        {"temperature": 1.0, "min_p": 0.1, "n": 3},
        {"logprobs": 5, "prompt_logprobs": 5},
        {"prompt_logprobs": 0, "max_tokens": 1},
        {"frequency_penalty": 1.0, "repetition_penalty": 1.2, "logit_bias": {5: 100.0}},
        {"bad_words": ["the"], "stop": ["x"], "min_tokens": 2},
        {"json_schema": {"type": "object", "properties": {"a": {"enum": ["b"]}}}},
    ],
    ids=lambda params: "-".join(params),
)
def test_however_it_is_asked_no_token_comes_out_and_neighbours_go_on(
    engine: Engine,
    build_lora: Callable[[Path], Any],
    tmp_path: Path,
    params: dict[str, Any],
    kind: str,
) -> None:
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    params = dict(params)
    if schema := params.pop("json_schema", None):
        params["structured_outputs"] = StructuredOutputsParams(json=schema)
    lora = build_lora(write_adapter(tmp_path / "bad", lambda b: b * torch.nan))
    good = build_lora(write_adapter(tmp_path / "good"))
    neighbours = [engine.start(token_ids(40, n), each, max_tokens=24) for n, each in ((1, None), (2, good))]
    outputs = engine.generate(token_ids(50), lora, output_kind=RequestOutputKind[kind], **params)
    samples = [sample for output in outputs for sample in output.outputs]
    assert {sample.index for sample in samples} == set(range(params.get("n", 1)))
    assert {sample.finish_reason for sample in samples} == {"error"}
    assert not any(sample.token_ids or sample.text for sample in samples)
    for neighbour in neighbours:
        assert len(neighbour.result()[-1].outputs[0].token_ids) == 24
    assert engine.llm.output_processor.get_num_unfinished_requests() == 0


def test_structured_output_is_not_taken_for_senseless(engine: Engine) -> None:
    from vllm.sampling_params import StructuredOutputsParams

    only = StructuredOutputsParams(json='{"enum": ["yes"]}')
    sample = engine.generate(token_ids(20), structured_outputs=only, max_tokens=8)[-1].outputs[0]
    assert (json.loads(sample.text), sample.finish_reason) == ("yes", "stop")


def test_seeded_request_whose_prompt_is_read_in_pieces_ends_nothing(engine: Engine) -> None:
    """It chooses the same tokens as when the prompt is in the cache, where nothing is read in pieces."""
    long, seeded = token_ids(900, 5), {"temperature": 1.0, "seed": 7, "max_tokens": 6}
    beside = engine.start(token_ids(40, 1), max_tokens=24)
    first = engine.generate(long, salt="seeded", **seeded)[-1].outputs[0].token_ids
    assert engine.generate(long, salt="seeded", **seeded)[-1].outputs[0].token_ids == first
    assert engine.generate(long, salt="other", **seeded)[-1].outputs[0].token_ids == first
    assert engine.generate(long, salt="seeded", **{**seeded, "seed": 8})[-1].outputs[0].token_ids != first
    assert len(beside.result()[-1].outputs[0].token_ids) == 24


def test_adapter_of_the_output_layer_is_refused_by_the_engine(
    engine: Engine, build_lora: Callable[[Path], Any], tmp_path: Path
) -> None:
    """Our check refuses such an adapter earlier. vLLM has no place for it either, and its engine lives on."""
    for name in ("lm_head", "model.embed_tokens"):
        more = {
            f"base_model.model.{name}.lora_A.weight": torch.zeros(4, 576),
            f"base_model.model.{name}.lora_B.weight": torch.zeros(49_152, 4),
        }
        lora = build_lora(write_adapter(tmp_path / name, more=more))
        with pytest.raises(Exception, match="expected target modules"):
            engine.run(engine.llm.add_lora(lora))
    assert engine.generate(token_ids(5))[-1].finished


def test_healthy_adapter_changes_the_answer(
    engine: Engine, build_lora: Callable[[Path], Any], tmp_path: Path
) -> None:
    """Each adapter changes one module alone; packed modules are among them."""
    plain = scored(engine.generate(token_ids(30), logprobs=3))
    assert scored(engine.generate(token_ids(30), logprobs=3)) == plain
    for module in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        lora = build_lora(write_adapter(tmp_path / module, only=module))
        assert scored(engine.generate(token_ids(30), lora, logprobs=3)) != plain, module

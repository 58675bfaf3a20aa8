from typing import Any

import pytest

from registry.records import CalledFunction, Defaults, JobRequest, Message, Method, Schedule, ToolCall
from serve_app.api.job_request import BATCH_SIZE, DEFAULTS, build_job
from serve_app.wire.train import Train
from tests.support.model_records import model_record

ASKED = {"role": "user", "content": "How is the weather in Rome?"}
ANSWER = {"role": "assistant", "content": "It is mild."}
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call-1", "content": "mild"}
TOOL = {"type": "function", "function": {"name": "weather", "description": None}}
TURNS = [CALLING, RESULT, ANSWER]
CALLED = Message(
    role="assistant",
    tool_calls=(ToolCall(id="call-1", function=CalledFunction(name="weather", arguments={"city": "Rome"})),),
)
QUESTION = Message(role="user", content="How is the weather in Rome?")
SEEN = Message(role="tool", content="mild", tool_call_id="call-1")
SAID = Message(role="assistant", content="It is mild.")
RECORDS = (CALLED, SEEN, SAID)
MODEL = model_record(defaults=Defaults(learning_rate=0.5, learning_steps=7, beta=0.3, epsilon=0.1))


def job(**body: Any) -> JobRequest:
    return build_job(Train.model_validate({"model": "mine", **body}), MODEL)


def examples(number: int) -> dict[str, Any]:
    return {"method": "supervised", "examples": [{"messages": [ASKED, ANSWER]}] * number}


def pairs(number: int) -> dict[str, Any]:
    return {"method": "dpo", "pairs": [{"messages": [ASKED], "preferred": "a", "rejected": "b"}] * number}


def test_group_has_texts_and_trajectories() -> None:
    cut = {"messages": TURNS, "reward": 0, "stop_reason": "max_tokens", "output_tokens": 9}
    made = job(messages=[ASKED], tools=[TOOL], responses=[{"content": "Mild.", "reward": 1}, cut])
    (group,) = made.groups
    assert made.method is Method.GRPO and group.messages == (QUESTION,)
    assert group.tools == ({"type": "function", "function": {"name": "weather"}},)
    text, trajectory = group.responses
    assert (text.content, text.messages, text.reward, text.ends_turn) == ("Mild.", (), 1, True)
    assert (trajectory.content, trajectory.messages, trajectory.ends_turn) == ("", RECORDS, False)
    values = made.hyperparameters
    assert (values.learning_rate, values.learning_steps, values.beta, values.epsilon) == (0.5, 7, 0.3, 0.1)
    assert (values.batch_size, values.warmup_ratio, values.schedule) == (None, 0, Schedule.CONSTANT)


def test_example_has_its_tools_its_weight_and_the_turns_that_are_learned() -> None:
    first = {"messages": [ASKED, ANSWER | {"weight": 0}, ASKED, ANSWER | {"weight": 1}], "weight": 0.5}
    second = {"messages": [ASKED, *TURNS], "tools": [TOOL]}
    made = job(method="supervised", examples=[first, second])
    assert [turn.is_trained for turn in made.examples[0].messages] == [True, False, True, True]
    assert [example.weight for example in made.examples] == [0.5, 1]
    assert made.examples[1].messages == (QUESTION, *RECORDS)
    assert made.examples[1].tools == ({"type": "function", "function": {"name": "weather"}},)
    assert (made.groups, made.pairs) == ((), ())


def test_side_of_a_pair_is_a_text_or_turns() -> None:
    made = job(
        method="dpo",
        pairs=[{"messages": [ASKED], "preferred": TURNS, "rejected": "It is mild.", "tools": [TOOL]}],
    )
    (pair,) = made.pairs
    assert (pair.messages, pair.preferred, pair.rejected) == ((QUESTION,), RECORDS, (SAID,))
    assert pair.tools


def test_content_in_parts_is_joined_as_vllm_joins_it() -> None:
    parts = [{"type": "text", "text": text} for text in ("One.", "", "Two.")]
    made = job(
        method="supervised",
        examples=[
            {"messages": [{"role": "developer", "content": parts}, ASKED | {"name": "Ann"}, ANSWER]},
        ],
    )
    system, user, _ = made.examples[0].messages
    assert (system.role, system.content, user.name) == ("system", "One.\nTwo.", "Ann")


def test_reasoning_is_ignored_and_a_refusal_is_what_the_model_said() -> None:
    turn = {
        "role": "assistant",
        "content": None,
        "refusal": "No.",
        "reasoning": "x",
        "reasoning_content": "x",
    }
    made = job(method="supervised", examples=[{"messages": [ASKED, ANSWER | turn]}])
    assert made.examples[0].messages[1] == Message(role="assistant", content="No.")
    turns = [{**CALLING, "reasoning": "x", "refusal": None}, RESULT, ANSWER | {"reasoning": "x"}]
    made = job(method="supervised", examples=[{"messages": [ASKED, *turns]}])
    assert made.examples[0].messages == (QUESTION, *RECORDS)


@pytest.mark.parametrize(
    ("number", "given", "steps", "batch_size"),
    [
        (1, {}, 3, 1),
        (8, {}, 3, 8),
        (9, {}, 6, 8),
        (10_000, {}, 750, 40),
        (9, {"epochs": 2, "batch_size": 2}, 10, 2),
        (9, {"batch_size": 100}, 3, 9),
        (9, {"learning_steps": 50}, 50, 8),
    ],
)
def test_steps_are_epochs_in_batches(number: int, given: dict[str, Any], steps: int, batch_size: int) -> None:
    values = job(**examples(number), **given).hyperparameters
    assert (values.learning_steps, values.batch_size) == (steps, batch_size)


def test_other_methods_have_defaults_of_their_own() -> None:
    supervised, dpo = job(**examples(16)).hyperparameters, job(**pairs(16)).hyperparameters
    assert supervised.learning_rate == DEFAULTS[Method.SUPERVISED].learning_rate == 2e-4
    assert (dpo.learning_rate, dpo.beta, dpo.learning_steps) == (5e-6, 0.1, 2)
    assert dpo.batch_size == BATCH_SIZE
    given = {"learning_rate": 1e-3, "warmup_ratio": 0.1, "schedule": "cosine", "beta": 0.2}
    values = job(**pairs(16), **given).hyperparameters
    assert (values.learning_rate, values.warmup_ratio, values.beta) == (1e-3, 0.1, 0.2)
    assert values.schedule is Schedule.COSINE


def test_job_can_be_stored_and_read() -> None:
    made = job(method="supervised", examples=[{"messages": [ASKED, *TURNS], "tools": [TOOL]}])
    assert JobRequest.model_validate_json(made.model_dump_json()) == made

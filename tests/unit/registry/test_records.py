"""Records that releases before this one wrote, and what this one writes."""

from registry.records import (
    Example,
    Group,
    Hyperparameters,
    JobRequest,
    Message,
    Method,
    Pair,
    RewardedResponse,
    Schedule,
)

OF_FIRST_RELEASE = (
    '{"groups":[{"messages":[{"role":"user","content":"?"}],"responses":['
    '{"content":"a","reward":1.0,"ends_turn":true},{"content":"","reward":-0.5,"ends_turn":false}]}],'
    '"hyperparameters":{"learning_rate":0.00001,"learning_steps":5,"beta":0.04,"epsilon":0.2}}'
)
"""A training of GRPO, as it was written when there was no other method."""


def test_training_that_uses_nothing_new_is_the_same_text_as_before() -> None:
    group = Group(
        messages=(Message(role="user", content="?"),),
        responses=(
            RewardedResponse(content="a", reward=1),
            RewardedResponse(content="", reward=-0.5, ends_turn=False),
        ),
    )
    values = Hyperparameters(learning_rate=1e-5, learning_steps=5, beta=0.04, epsilon=0.2)
    request = JobRequest(groups=(group,), hyperparameters=values)
    assert request.model_dump_json() == OF_FIRST_RELEASE
    assert JobRequest.model_validate_json(OF_FIRST_RELEASE) == request


def test_new_parts_are_written_where_they_are_used() -> None:
    asked, said = Message(role="user", content="?"), Message(role="assistant", content="a")
    values = Hyperparameters(
        learning_rate=1e-5,
        learning_steps=5,
        beta=0.1,
        epsilon=0,
        batch_size=8,
        warmup_ratio=0.1,
        schedule=Schedule.COSINE,
    )
    tools = ({"type": "function", "function": {"name": "f", "parameters": {"default": None}}},)
    not_learned = said.model_copy(update={"is_trained": False, "name": "x"})
    pair = Pair(messages=(asked, not_learned, asked), preferred=(said,), rejected=(said,), tools=tools)
    example = Example(messages=(asked, said), tools=tools, weight=0.5)
    response = RewardedResponse(messages=(said,), reward=1)
    group = Group(messages=(asked,), responses=(response, response), tools=tools)
    for request in (
        JobRequest(method=Method.DPO, pairs=(pair,), hyperparameters=values),
        JobRequest(method=Method.SUPERVISED, examples=(example,), hyperparameters=values),
        JobRequest(groups=(group,), hyperparameters=values),
    ):
        assert JobRequest.model_validate_json(request.model_dump_json()) == request

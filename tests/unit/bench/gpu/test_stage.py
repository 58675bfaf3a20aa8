from bench.gpu.scales import FULL, SCALES, TrainingWork
from bench.gpu.stage import request_of
from serve_app.wire.train import Train


def test_request_is_valid_and_has_the_size_of_the_work() -> None:
    for scale in SCALES.values():
        for work in (scale.work, scale.long_work):
            request = Train(model="model-0", **request_of(work))
            groups = request.all_groups()
            assert len(groups) == work.groups
            assert {len(group.responses) for group in groups} == {work.responses}
            assert request.learning_steps == work.steps


def test_prompts_and_responses_differ_and_rewards_too() -> None:
    groups = request_of(FULL.work)["groups"]
    prompts = {group["messages"][0]["content"] for group in groups}
    contents = {response["content"] for group in groups for response in group["responses"]}
    assert len(prompts) == FULL.work.groups
    assert len(contents) == FULL.work.groups * FULL.work.responses
    assert all(len({response["reward"] for response in group["responses"]}) > 1 for group in groups)


def test_texts_have_the_words_that_were_asked_for() -> None:
    (group,) = request_of(TrainingWork(groups=1, responses=2, prompt_words=5, response_words=7))["groups"]
    assert len(group["messages"][0]["content"].split()) == 1 + 5
    assert [len(response["content"].split()) for response in group["responses"]] == [2 + 7, 2 + 7]

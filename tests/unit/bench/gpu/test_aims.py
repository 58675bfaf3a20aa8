from bench.gpu.aims import adapter_aims, aim, first_ask_aim, serving_aims

ADDED = {"vllm": {"added_ms": 0.0}, "tiger-native": {"added_ms": 4.2}}
LEVEL = {"vllm": {"output_tokens_ratio": 1.0}, "tiger-native": {"output_tokens_ratio": 0.95}}


def of_adapters(ratio: float) -> dict[str, dict[str, float]]:
    return {"adapters": {"output_tokens_ratio": ratio}}


def test_aim_is_met_on_its_bound_and_not_beyond() -> None:
    assert aim(5.0, at_most=5.0) == {"measured": 5.0, "at_most": 5.0, "is_met": True}
    assert not aim(5.1, at_most=5.0)["is_met"]
    assert aim(0.97, at_least=0.97)["is_met"]
    assert not aim(0.96, at_least=0.97)["is_met"]


def test_serving_is_compared_with_bare_vllm() -> None:
    assert serving_aims(ADDED, LEVEL, "vllm") == {
        "tiger-native: ms added to a first token": {"measured": 4.2, "at_most": 5.0, "is_met": True},
        "tiger-native: tokens a second at 64": {"measured": 0.95, "at_least": 0.97, "is_met": False},
    }


def test_level_that_was_not_measured_has_no_aim() -> None:
    assert list(serving_aims(ADDED, None, "vllm")) == ["tiger-native: ms added to a first token"]
    assert adapter_aims({4: of_adapters(0.5)}) == {}


def test_one_adapter_more_is_compared_with_one_less() -> None:
    found = adapter_aims({1: of_adapters(0.9), 32: of_adapters(0.6), 33: of_adapters(0.3)})
    assert found["1 adapter: tokens a second, of the base model's"]["is_met"]
    assert found["33 adapters: tokens a second, of those of 32"] == {
        "measured": 0.5,
        "at_least": 0.9,
        "is_met": False,
    }


def test_first_ask_is_compared_with_a_warm_one() -> None:
    assert first_ask_aim({"over_warm_p50_ms": 150.0})["is_met"]
    assert not first_ask_aim({"over_warm_p50_ms": 151.0})["is_met"]

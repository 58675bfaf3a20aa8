from datetime import date, timedelta

from registry.store import ObjectStore
from registry.usage import Usage, UsageParts

DAY = date(2026, 2, 28)
NEXT = DAY + timedelta(days=1)


def test_parts_add_up_by_day_and_model(store: ObjectStore) -> None:
    parts = UsageParts(store)
    parts.save("alice", DAY, "a", {"one": Usage(requests=1, input_tokens=2), "two": Usage(output_tokens=5)})
    parts.save("alice", DAY, "b", {"one": Usage(requests=2, generation_seconds=0.5)})
    parts.save("alice", NEXT, "a", {"one": Usage(trained_tokens=7, training_seconds=1.5)})
    assert parts.sums("alice", DAY, NEXT) == {
        (DAY, "one"): Usage(requests=3, input_tokens=2, generation_seconds=0.5),
        (DAY, "two"): Usage(output_tokens=5),
        (NEXT, "one"): Usage(trained_tokens=7, training_seconds=1.5),
    }


def test_part_written_again_counts_once(store: ObjectStore) -> None:
    parts = UsageParts(store)
    for _ in range(2):
        parts.save("alice", DAY, "a", {"one": Usage(requests=3)})
    assert parts.sums("alice", DAY, DAY) == {(DAY, "one"): Usage(requests=3)}


def test_only_the_days_asked_for_are_summed(store: ObjectStore) -> None:
    parts = UsageParts(store)
    for offset in range(-2, 3):
        parts.save("alice", DAY + timedelta(days=offset), "a", {"one": Usage(requests=1)})
    assert {day for day, _ in parts.sums("alice", DAY, NEXT)} == {DAY, NEXT}


def test_nobody_sees_the_usage_of_another_user(store: ObjectStore) -> None:
    parts = UsageParts(store)
    for user in ("alice", "al", "alice-2"):
        parts.save(user, DAY, "a", {user: Usage(requests=1)})
    assert parts.sums("al", DAY, DAY) == {(DAY, "al"): Usage(requests=1)}
    assert parts.sums("bob", DAY, DAY) == {}

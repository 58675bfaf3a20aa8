"""The waiting jobs keep the order of each model, whatever users hold and whichever jobs come back."""

import random

import pytest

from registry.records import JobRecord, utc_now
from training.controller.metrics import NoMetrics
from training.controller.waiting_jobs import WaitingJobs

BASE = "base"


def job(number: int, user: str, uid: str, is_held: bool = False) -> JobRecord:
    common = {"model": uid, "base_model": BASE, "created": utc_now(), "steps": 1}
    return JobRecord.model_validate(
        {**common, "id": f"job-{number}", "user": user, "uid": uid, "is_held": is_held}
    )


class Life:
    """Random jobs of two users with two models each, and one worker that takes them."""

    def __init__(self, seed: int) -> None:
        self.draws = random.Random(seed)
        self.waiting = WaitingJobs(NoMetrics())
        self.unfinished: list[JobRecord] = []
        self.num_accepted = 0
        self.held: set[str] = set()
        self.taken: JobRecord | None = None

    def accept(self) -> None:
        user, self.num_accepted = self.draws.choice("ab"), self.num_accepted + 1
        record = job(
            self.num_accepted, user, user + self.draws.choice("12"), is_held=self.draws.random() < 0.2
        )
        if record.is_held:
            self.held.add(record.id)
        self.unfinished.append(record)
        self.waiting.put(record)

    def hold(self) -> None:
        if records := self.unfinished:
            record = self.draws.choice(records)
            self.held.add(record.id)
            self.waiting.hold(record, is_taken=record is self.taken)

    def let_go(self) -> None:
        if records := [record for record in self.unfinished if record.id in self.held]:
            record = self.draws.choice(records)
            self.held.discard(record.id)
            self.waiting.let_go(record)

    def take(self) -> None:
        if self.taken is not None:
            return
        free = [record for record in self.unfinished if not self.is_blocked(record)]
        assert self.waiting.num_ready(BASE) == len(free)
        self.taken = self.waiting.take(BASE)
        if self.taken is None:
            assert not free
            return
        assert self.taken in free
        older = [record for record in free if record.uid == self.taken.uid]
        assert older[0] is self.taken, "the trainings of a model keep their order"

    def is_blocked(self, record: JobRecord) -> bool:
        older = [other for other in self.unfinished if other.uid == record.uid]
        ids = [other.id for other in older]
        return any(held in self.held for held in ids[: ids.index(record.id) + 1])

    def give_back(self) -> None:
        if self.taken is not None:
            put = self.draws.choice((self.waiting.put_first, self.waiting.put_last))
            put(self.taken)
            self.taken = None

    def end(self) -> None:
        """End the job that is taken, or cancel one that waits."""
        record = self.taken
        if record is None and (records := self.unfinished):
            record = self.draws.choice(records)
        if record is not None:
            self.taken = None
            self.unfinished.remove(record)
            self.held.discard(record.id)
            self.waiting.remove(record)


@pytest.mark.parametrize("seed", range(10))
def test_jobs_that_may_be_taken_are_those_that_no_hold_blocks(seed: int) -> None:
    life = Life(seed)
    acts = (life.accept, life.hold, life.let_go, life.take, life.give_back, life.end)
    for _ in range(300):
        life.draws.choice(acts)()
        ids = set(life.waiting.ids(BASE)) | ({life.taken.id} if life.taken else set())
        assert ids == {record.id for record in life.unfinished}
    for record in life.unfinished:
        life.held.discard(record.id)
        life.waiting.let_go(record)
    life.give_back()
    while life.unfinished:
        life.take()
        life.end()
    assert life.waiting.ids(BASE) == [], "no hold is left over"


def test_jobs_of_another_base_model_are_not_listed() -> None:
    waiting = WaitingJobs(NoMetrics())
    other = job(1, "a", "a1", is_held=True).model_copy(update={"base_model": "other"})
    waiting.put(other)
    waiting.put(job(2, "b", "b1"))
    assert waiting.ids(BASE) == ["job-2"]
    assert waiting.ids("other") == ["job-1"]
    assert waiting.num_ready("other") == 0

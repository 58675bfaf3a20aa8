from collections.abc import Callable

import pytest

from registry.errors import JobNotFound
from registry.jobs import JobIds, Jobs
from registry.records import (
    Group,
    Hyperparameters,
    JobRecord,
    JobRequest,
    JobStatus,
    Message,
    RewardedResponse,
    utc_now,
)
from registry.store import ObjectStore

REQUEST = JobRequest(
    groups=(
        Group(
            messages=(Message(role="user", content="Why?"),),
            responses=(RewardedResponse(content="a", reward=1), RewardedResponse(content="b", reward=0)),
        ),
    ),
    hyperparameters=Hyperparameters(learning_rate=1e-5, learning_steps=5, beta=0.04, epsilon=0.2),
)
IDS = JobIds()


class Crash(Exception):
    pass


class CrashingStore(ObjectStore):
    """A store that dies just before the first write or delete whose key `is_fatal`."""

    def __init__(self, store: ObjectStore, is_fatal: Callable[[str], bool]) -> None:
        super().__init__(store.settings)
        self._is_fatal = is_fatal

    def put(self, key: str, body: bytes) -> None:
        if self._is_fatal(key):
            raise Crash
        super().put(key, body)

    def create(self, key: str, body: bytes) -> str:
        if self._is_fatal(key):
            raise Crash
        return super().create(key, body)

    def replace(self, key: str, body: bytes, etag: str) -> str:
        if self._is_fatal(key):
            raise Crash
        return super().replace(key, body, etag)

    def delete(self, key: str) -> None:
        if self._is_fatal(key):
            raise Crash
        super().delete(key)


@pytest.fixture
def jobs(store: ObjectStore) -> Jobs:
    return Jobs(store)


def record(user: str = "alice") -> JobRecord:
    return JobRecord(
        id=IDS.generate(), user=user, uid="u", model="m", base_model="base", created=utc_now(), steps=5
    )


def ended(job: JobRecord) -> JobRecord:
    return job.model_copy(update={"status": JobStatus.SUCCEEDED, "finished": utc_now()})


def accepted(jobs: Jobs, count: int, user: str = "alice") -> list[JobRecord]:
    records = [record(user) for _ in range(count)]
    for one in records:
        jobs.accept(one, REQUEST)
    return records


def test_ids_are_unique_and_newest_first() -> None:
    ids = [IDS.generate() for _ in range(5000)]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids[0]) == len("job-") + 24


class Clock:
    """The clock of a machine, in nanoseconds, which an operator may set back."""

    now_ns = 2_000_000 * 10**9

    def __call__(self) -> int:
        return self.now_ns


def test_ids_go_on_when_the_clock_is_set_back() -> None:
    clock = Clock()
    ids = JobIds(clock)
    made = [ids.generate(), ids.generate()]
    clock.now_ns -= 10**15
    made += [ids.generate(), ids.generate()]
    clock.now_ns += 2 * 10**15
    made.append(ids.generate())
    assert made == sorted(set(made), reverse=True)


def test_new_job_comes_after_the_unfinished_ones_of_a_process_whose_clock_was_ahead(
    jobs: Jobs, store: ObjectStore
) -> None:
    """The order of the ids is the order in which trainings of one model run."""
    (before,) = accepted(jobs, 1)
    clock = Clock()
    later = Jobs(store, ids=JobIds(clock))
    assert later.active() == [before]
    assert later.ids.generate() < before.id


def test_id_that_no_clock_made_is_not_followed() -> None:
    ids = JobIds(Clock())
    ids.note("job-" + "0" * 24)
    assert ids.generate() > JobIds().generate()


def test_accepted_job_round_trip(jobs: Jobs) -> None:
    (job,) = accepted(jobs, 1)
    assert jobs.load("alice", job.id) == job
    assert jobs.load_request("alice", job.id) == REQUEST
    running = job.model_copy(update={"status": JobStatus.RUNNING, "revision": 1})
    jobs.save(running)
    assert jobs.active() == [running]
    jobs.finish(ended(running))
    assert jobs.active() == []
    assert jobs.load("alice", job.id).status is JobStatus.SUCCEEDED


def test_finish_wants_a_terminal_status(jobs: Jobs) -> None:
    (job,) = accepted(jobs, 1)
    with pytest.raises(ValueError):
        jobs.finish(job)
    assert jobs.active() == [job]


def test_unknown_job_is_not_found(jobs: Jobs) -> None:
    (job,) = accepted(jobs, 1)
    for user, job_id in (("bob", job.id), ("alice", IDS.generate()), ("alice", f"../alice/{job.id}")):
        with pytest.raises(JobNotFound):
            jobs.load(user, job_id)
        with pytest.raises(JobNotFound):
            jobs.load_request(user, job_id)
    with pytest.raises(JobNotFound):
        jobs.page("alice", after="job-1", limit=10)
    with pytest.raises(JobNotFound):
        jobs.load_events("alice", "../x")


def test_active_is_oldest_first_over_all_users(jobs: Jobs) -> None:
    records = [one for user in ("bob", "alice", "carol", "bob") for one in accepted(jobs, 1, user)]
    assert [job.id for job in jobs.active()] == [job.id for job in records]


def test_crash_while_accepting_leaves_no_job(jobs: Jobs, store: ObjectStore) -> None:
    for fatal in ("/request.json", "/job.json", "jobs-active/"):
        job = record()
        with pytest.raises(Crash):
            Jobs(CrashingStore(store, lambda key, fatal=fatal: fatal in key)).accept(job, REQUEST)
        with pytest.raises(JobNotFound):
            jobs.load("alice", job.id)
    assert jobs.active() == []
    assert jobs.page("alice", None, 10) == []


def test_crash_while_finishing_is_repaired(jobs: Jobs, store: ObjectStore) -> None:
    first, second = accepted(jobs, 2)
    with pytest.raises(Crash):
        Jobs(CrashingStore(store, lambda key: "/job.json" in key)).finish(ended(first))
    assert jobs.active() == [first, second], "not finished: it runs again"
    with pytest.raises(Crash):
        Jobs(CrashingStore(store, lambda key: "jobs-active/" in key)).finish(ended(first))
    assert jobs.active() == [second]
    assert store.list("jobs-active/") == [f"jobs-active/alice/{second.id}"]
    assert jobs.load("alice", first.id).status is JobStatus.SUCCEEDED


def test_a_record_that_cannot_be_read_keeps_no_other_job_from_running(
    jobs: Jobs, store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, other = accepted(jobs, 2)
    store.put(f"jobs/alice/{damaged.id}/job.json", b"")
    assert jobs.active() == [other]
    assert damaged.id in caplog.text
    assert f"jobs-active/alice/{damaged.id}" in store.list("jobs-active/")


@pytest.mark.parametrize("name", ["note", "bob/job-1", "bob/{job}/more", "{job}"])
def test_marker_that_names_no_job_keeps_no_other_job_from_running(
    jobs: Jobs, store: ObjectStore, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """It was written by hand, or by a later release. It stays for the operator, who finds it in the log."""
    (job,) = accepted(jobs, 1)
    marker = "jobs-active/" + name.format(job=IDS.generate())
    store.put(marker, b"")
    assert jobs.active() == [job]
    assert marker in caplog.text and marker in store.list("jobs-active/")


def test_marker_without_a_job_is_removed(jobs: Jobs, store: ObjectStore) -> None:
    store.put(f"jobs-active/alice/{IDS.generate()}", b"")
    assert jobs.active() == []
    assert store.list("jobs-active/") == []


def test_paging_goes_from_new_to_old(jobs: Jobs, store: ObjectStore) -> None:
    records = accepted(jobs, 7)
    jobs.finish(ended(records[3]))
    jobs.save_events("alice", records[5].id, ["{}"])
    store.put(f"jobs/alice/{IDS.generate()}/request.json", b"{}")
    accepted(jobs, 2, "alice2")
    newest_first = [job.id for job in reversed(records)]
    seen: list[str] = []
    after = None
    while page := jobs.page("alice", after, limit=3):
        assert len(page) == min(3, 7 - len(seen))
        seen += [job.id for job in page]
        after = seen[-1]
    assert seen == newest_first
    assert [job.id for job in jobs.page("alice", None, 100)] == newest_first
    assert jobs.page("nobody", None, 5) == []


def test_events_are_rewritten_whole(jobs: Jobs) -> None:
    (job,) = accepted(jobs, 1)
    assert jobs.load_events("alice", job.id) == []
    jobs.save_events("alice", job.id, ['{"type":"info"}'])
    lines = ['{"type":"info"}', '{"message":"a\u2028b"}']
    jobs.save_events("alice", job.id, lines)
    assert jobs.load_events("alice", job.id) == lines

"""One Trainer takes over the jobs of another one, which still writes."""

from collections.abc import Callable

import pytest

from registry.errors import Superseded
from registry.jobs import JobIds, Jobs, OpenJob
from registry.records import JobRecord, JobStatus, utc_now
from registry.store import ObjectStore
from tests.support.training_world import REQUEST

IDS = JobIds()
EVENT, LATE_EVENT = '{"type":"info"}', '{"type":"late"}'


@pytest.fixture
def former(store: ObjectStore) -> Jobs:
    return Jobs(store, 1)


@pytest.fixture
def later(store: ObjectStore) -> Jobs:
    return Jobs(store, 2)


def record(**fields: object) -> JobRecord:
    known = JobRecord(
        id=IDS.generate(), user="alice", uid="u", model="m", base_model="base", created=utc_now(), steps=5
    )
    return known.model_copy(update=fields)


def running(jobs: Jobs) -> JobRecord:
    """The record of an accepted job that runs and has an event."""
    begun = jobs.accept(record(), REQUEST).record.model_copy(
        update={"status": JobStatus.RUNNING, "attempt": 1}
    )
    jobs.save_events("alice", begun.id, [EVENT])
    jobs.save(begun)
    return begun


def taken_over(jobs: Jobs) -> OpenJob:
    (job,) = jobs.unfinished()
    opened = jobs.take_over(job)
    assert opened is not None
    return opened


def ended(job: JobRecord) -> JobRecord:
    return job.model_copy(update={"status": JobStatus.SUCCEEDED, "finished": utc_now()})


def test_former_trainer_cannot_write_a_job_that_was_taken_over(former: Jobs, later: Jobs) -> None:
    job = running(former)
    opened = taken_over(later)
    assert opened.events == [EVENT]
    for write in (former.save, former.finish):
        with pytest.raises(Superseded):
            write(ended(job))
    assert later.load("alice", job.id).status is JobStatus.RUNNING
    later.finish(ended(opened.record))
    with pytest.raises(Superseded):
        former.save(job)
    assert later.load("alice", job.id).status is JobStatus.SUCCEEDED


def test_late_events_of_the_former_trainer_are_not_those_of_the_job(former: Jobs, later: Jobs) -> None:
    job = running(former)
    opened = taken_over(later)
    former.save_events("alice", job.id, [EVENT, LATE_EVENT])
    epoch = later.load("alice", job.id).epoch
    assert epoch == 2
    assert later.load_events("alice", job.id, epoch) == opened.events == [EVENT]


def test_job_that_changes_while_it_is_taken_over_is_taken_as_it_is_then(former: Jobs, later: Jobs) -> None:
    job = running(former)
    (read,) = later.unfinished()
    former.save_events("alice", job.id, [EVENT, LATE_EVENT])
    former.save(job.model_copy(update={"step": 3}))
    opened = later.take_over(read)
    assert opened is not None
    assert (opened.record.step, opened.events) == (3, [EVENT, LATE_EVENT])


def test_job_that_ends_while_it_is_taken_over_has_ended(former: Jobs, later: Jobs) -> None:
    job = running(former)
    (read,) = later.unfinished()
    former.finish(ended(job))
    assert later.take_over(read) is None
    assert later.unfinished() == []


def test_job_that_the_former_trainer_accepts_late_is_found(former: Jobs, later: Jobs) -> None:
    known = former.accept(record(), REQUEST).record
    late = former.accept(record(), REQUEST).record
    found = later.unfinished(lambda user, job_id: (user, job_id) == ("alice", known.id))
    assert [job.record.id for job in found] == [late.id]


@pytest.mark.parametrize("order", [("former", "later"), ("later", "former")])
def test_job_with_one_id_is_accepted_by_two_trainers_once(
    former: Jobs, later: Jobs, order: tuple[str, str]
) -> None:
    """Two requests with one Idempotency-Key have one id. The later Trainer has the job in the end."""
    job = record()
    first, second = ({"former": former, "later": later}[name] for name in order)
    first.accept(job, REQUEST)
    if second is later:
        assert second.accept(job, REQUEST).record.id == job.id
    else:
        with pytest.raises(Superseded):
            second.accept(job, REQUEST)
    with pytest.raises(Superseded):
        former.save(job)
    later.save(job)
    assert [each.id for each in later.active()] == [job.id]


def test_repeat_does_not_begin_a_job_again_that_the_former_trainer_has_ended(
    former: Jobs, later: Jobs
) -> None:
    job = running(former)
    former.finish(ended(job))
    assert later.accept(job, REQUEST).record.status is JobStatus.SUCCEEDED
    assert later.active() == []


@pytest.mark.parametrize("write", [Jobs.save, Jobs.finish])
def test_write_of_unknown_outcome_does_not_make_a_trainer_stop(
    store: ObjectStore, former: Jobs, write: Callable[[Jobs, JobRecord], None]
) -> None:
    """The record in the bucket is another one than the Trainer believes, but has its epoch."""
    job = former.accept(record(), REQUEST).record
    Jobs(store, 1).save(job.model_copy(update={"step": 1}))
    write(former, ended(job))
    assert former.load("alice", job.id).status is JobStatus.SUCCEEDED

from training.controller.queue import JobQueue


def taken(queue: JobQueue) -> list[str]:
    return [job_id for job_id in iter(queue.take, None) if job_id is not None]


def filled(*jobs: str) -> JobQueue:
    """A queue with jobs by their names: `a1` is a job of user `a`."""
    queue = JobQueue()
    for job in jobs:
        queue.put(job[0], job)
    return queue


def test_jobs_of_one_user_keep_their_order() -> None:
    assert taken(filled("a1", "a2", "a3")) == ["a1", "a2", "a3"]


def test_users_come_in_turn() -> None:
    assert taken(filled("a1", "a2", "a3", "b1", "b2", "c1")) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_user_who_comes_back_waits_behind_the_others() -> None:
    queue = filled("a1", "b1", "b2")
    assert queue.take() == "a1"
    queue.put("a", "a2")
    assert taken(queue) == ["b1", "a2", "b2"]


def test_job_given_back_is_the_next_of_all() -> None:
    queue = filled("a1", "a2", "b1")
    assert queue.take() == "a1"
    queue.put_first("a", "a1")
    assert taken(queue) == ["a1", "b1", "a2"]


def test_discarded_job_is_not_taken() -> None:
    queue = filled("a1", "a2", "b1")
    for user, job in (("a", "a1"), ("b", "b1"), ("b", "b1"), ("c", "c1")):
        queue.discard(user, job)
    assert len(queue) == 1
    assert taken(queue) == ["a2"]


def test_length_counts_the_jobs_of_all_users() -> None:
    queue = filled("a1", "a2", "b1")
    assert len(queue) == 3
    taken(queue)
    assert len(queue) == 0
    assert queue.take() is None


def test_job_that_had_its_turn_is_the_next_of_its_user_behind_the_others() -> None:
    queue = filled("a1", "a2", "b1")
    assert queue.take() == "a1"
    queue.put("c", "c1")
    queue.put_last("a", "a1")
    assert len(queue) == 4
    assert taken(queue) == ["b1", "c1", "a1", "a2"]


def test_others_are_users_who_wait() -> None:
    queue = filled("a1", "a2")
    assert not queue.has_others("a")
    assert queue.has_others("b")
    queue.put("b", "b1")
    assert queue.has_others("a")
    taken(queue)
    assert not queue.has_others("a")

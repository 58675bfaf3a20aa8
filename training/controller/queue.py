"""The queue of a base model: users take turns, and each user's jobs keep the order of acceptance."""

from collections import OrderedDict, deque


class JobQueue:
    """The ids of the jobs that wait for one base model.

    The jobs of a user keep their order. The jobs of one private model therefore do too.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[str]] = OrderedDict()
        self._num_waiting = 0

    def __len__(self) -> int:
        return self._num_waiting

    def ids(self) -> list[str]:
        return [job_id for jobs in self._waiting.values() for job_id in jobs]

    def of_user(self, user: str) -> list[str]:
        return list(self._waiting.get(user, ()))

    def put(self, user: str, job_id: str) -> None:
        self._waiting.setdefault(user, deque()).append(job_id)
        self._num_waiting += 1

    def put_first(self, user: str, job_id: str) -> None:
        """Put back a job that was taken: it is the next of all jobs."""
        self._waiting.setdefault(user, deque()).appendleft(job_id)
        self._waiting.move_to_end(user, last=False)
        self._num_waiting += 1

    def put_last(self, user: str, job_id: str) -> None:
        """Put back a job whose turn is over. It is its user's next job; the user waits behind the others."""
        self._waiting.setdefault(user, deque()).appendleft(job_id)
        self._waiting.move_to_end(user)
        self._num_waiting += 1

    def has_others(self, user: str) -> bool:
        """Return True if a job of another user waits."""
        return len(self._waiting) > (user in self._waiting)

    def discard(self, user: str, job_id: str) -> None:
        """Remove a job from the queue, if it waits there."""
        jobs = self._waiting.get(user)
        if jobs is not None and job_id in jobs:
            jobs.remove(job_id)
            self._num_waiting -= 1
            if not jobs:
                del self._waiting[user]

    def take(self) -> str | None:
        """Remove and return the next job, or None. Its user then waits behind the others."""
        if not self._waiting:
            return None
        user, jobs = next(iter(self._waiting.items()))
        job_id = jobs.popleft()
        self._num_waiting -= 1
        if jobs:
            self._waiting.move_to_end(user)
        else:
            del self._waiting[user]
        return job_id

"""The jobs that their users have paused, and the later jobs of the same models, which wait for them.

    hold -> the job, and every later job of its model, stand in the line of the model
    let_go (the user resumes it, or it has ended) -> the jobs of the line up to the next held one may go on

So the trainings of a model keep the order in which they were accepted.
"""

from collections import defaultdict, deque
from collections.abc import Iterable

from registry.records import JobRecord


class HeldJobs:
    """The held jobs of all models, by the uid of the model. A held job that runs is not in a line yet."""

    def __init__(self) -> None:
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._lines: defaultdict[str, deque[str]] = defaultdict(deque)

    def is_held(self, record: JobRecord) -> bool:
        return record.id in self._held.get(record.uid, ())

    def blocks(self, record: JobRecord) -> bool:
        """Return True if a new job of this model has to wait in line."""
        return bool(self._held.get(record.uid))

    def ids(self) -> list[str]:
        """The ids of the jobs that stand in a line."""
        return [job_id for line in self._lines.values() for job_id in line]

    def hold(self, record: JobRecord, waiting: Iterable[str] = ()) -> None:
        """Hold a job. `waiting` are the jobs of its model that wait and are not in line, from it on."""
        self._held[record.uid].add(record.id)
        self._lines[record.uid].extendleft(reversed(list(waiting)))

    def put_first(self, record: JobRecord) -> None:
        """Put a held job that has run to the front of its line: it is older than all others there."""
        self._lines[record.uid].appendleft(record.id)

    def put_last(self, record: JobRecord) -> None:
        """Put a job into the line of its model, because an older one is held, or it is held itself."""
        self._lines[record.uid].append(record.id)

    def let_go(self, record: JobRecord) -> list[str]:
        """Hold a job no longer; returns the jobs that may go on now, oldest first."""
        held, line = self._held[record.uid], self._lines[record.uid]
        held.discard(record.id)
        free: list[str] = []
        if held <= set(line):  # else a held job still runs, and all others in line are later ones
            while line and line[0] not in held:
                free.append(line.popleft())
        self._forget_empty(record.uid)
        return free

    def remove(self, record: JobRecord) -> list[str]:
        """Forget a job that has ended; returns the jobs that may go on now, oldest first."""
        if record.uid not in self._held and record.uid not in self._lines:
            return []
        if record.id in self._lines[record.uid]:
            self._lines[record.uid].remove(record.id)
        return self.let_go(record)

    def clear(self) -> None:
        self._held.clear()
        self._lines.clear()

    def _forget_empty(self, uid: str) -> None:
        if not self._held[uid]:
            del self._held[uid]
        if not self._lines[uid]:
            del self._lines[uid]

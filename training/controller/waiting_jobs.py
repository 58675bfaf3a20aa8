"""The jobs that no run works on: those in the queues of their base models, and those that users hold.

put, put_first, put_last  ->  queue of the base model  ->  take
                          ->  line of the model, if the job or an older one is held (controller.held_jobs)
"""

from collections import defaultdict

from registry.records import JobRecord
from training.controller.held_jobs import HeldJobs
from training.controller.metrics import TrainingMetrics
from training.controller.queue import JobQueue


class WaitingJobs:
    """The waiting jobs of all base models. The metric of a queue counts only those that a run may take."""

    def __init__(self, metrics: TrainingMetrics) -> None:
        self._metrics = metrics
        self._records: dict[str, JobRecord] = {}
        self._queues: defaultdict[str, JobQueue] = defaultdict(JobQueue)
        self._held = HeldJobs()

    def num_ready(self, base_model: str) -> int:
        """The number of jobs that a run may take."""
        return len(self._queues[base_model])

    def has_others(self, record: JobRecord) -> bool:
        """Return True if a job of another user may be taken in place of this one."""
        return self._queues[record.base_model].has_others(record.user)

    def is_held(self, record: JobRecord) -> bool:
        return self._held.is_held(record)

    def ids(self, base_model: str) -> list[str]:
        """The ids of the jobs that wait for their turn, or for their user."""
        in_line = [job for job in self._held.ids() if self._records[job].base_model == base_model]
        return self._queues[base_model].ids() + in_line

    def put(self, record: JobRecord) -> None:
        """Put a job behind all others of its model.

        One whose end was not saved before its controller died waits for no user, as it will not train.
        """
        self._records[record.id] = record
        if record.is_held and not record.only_ends:
            self._held.hold(record)
        if self._held.blocks(record) and not record.only_ends:
            self._held.put_last(record)
        else:
            self._queues[record.base_model].put(record.user, record.id)
            self.tell_length(record.base_model)

    def put_first(self, record: JobRecord) -> None:
        """Put back a job that was taken: it is the next of all jobs, unless it is held."""
        if self.is_held(record):
            self._held.put_first(record)
        else:
            self._queues[record.base_model].put_first(record.user, record.id)
            self.tell_length(record.base_model)

    def put_last(self, record: JobRecord) -> None:
        """Put back a job whose turn is over: it is its user's next job, unless it is held."""
        if self.is_held(record):
            self._held.put_first(record)
        else:
            self._queues[record.base_model].put_last(record.user, record.id)
            self.tell_length(record.base_model)

    def take(self, base_model: str) -> JobRecord | None:
        """Remove and return the next job of a base model, or None."""
        job_id = self._queues[base_model].take()
        if job_id is None:
            return None
        self.tell_length(base_model)
        return self._records[job_id]

    def hold(self, record: JobRecord, is_taken: bool) -> None:
        """Keep a job, and the later jobs of its model, from being taken. It may be taken already."""
        if self.is_held(record):
            return
        queue = self._queues[record.base_model]
        waiting = [job for job in queue.of_user(record.user) if self._records[job].uid == record.uid]
        if not is_taken:
            waiting = waiting[waiting.index(record.id) :] if record.id in waiting else []
        for job_id in waiting:
            queue.discard(record.user, job_id)
        self._held.hold(record, waiting)
        self.tell_length(record.base_model)

    def let_go(self, record: JobRecord) -> bool:
        """Hold a job no longer; return True if a job may be taken now that waited for that."""
        return self._free(self._held.let_go(record), record.base_model)

    def remove(self, record: JobRecord) -> bool:
        """Forget a job that has ended; return True if a job may be taken now that waited for that."""
        self._queues[record.base_model].discard(record.user, record.id)
        self.tell_length(record.base_model)
        has_freed = self._free(self._held.remove(record), record.base_model)
        self._records.pop(record.id, None)
        return has_freed

    def clear(self) -> None:
        self._records.clear()
        self._held.clear()
        for base_model in self._queues:
            self._queues[base_model] = JobQueue()
            self.tell_length(base_model)

    def tell_length(self, base_model: str) -> None:
        self._metrics.queued(base_model, len(self._queues[base_model]))

    def _free(self, job_ids: list[str], base_model: str) -> bool:
        for job_id in job_ids:
            self._queues[base_model].put(self._records[job_id].user, job_id)
        if job_ids:
            self.tell_length(base_model)
        return bool(job_ids)

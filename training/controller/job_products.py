"""The things beside a revision that a fine-tuning job of OpenAI's API makes, or takes away again at its end.

    success               ->  a file with the numbers of each step
    failure, cancellation ->  a copy of a model that was made for the job goes away, if it has no revision

Both happen before the end of the job is saved, and repeating them is harmless. So a controller that takes
over after a crash does what is left. A job ends even if one of them fails.
"""

import asyncio
import csv
import hashlib
import io
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from registry.errors import FileNotFound, ModelNotFound
from registry.file_lists import FileLists, content_key
from registry.file_records import FilePurpose, FileRecord
from registry.fine_tuning import result_file_id
from registry.leadership import Unopposed
from registry.records import JobRecord, utc_now
from registry.retry import Retry
from registry.store import ObjectStore
from registry.unfinished_files import Mark, UnfinishedFiles
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.publisher import Publisher
from training.controller.submission import Submission

logger = logging.getLogger("ray.serve")

FILE_NAME = "step_metrics.csv"
MOST_TIME = timedelta(hours=1)
"""The time after which a result file that no list names was that of a process that died."""
COLUMNS = {
    "step": ("step",),
    "train_loss": ("loss",),
    "train_accuracy": ("token_accuracy", "reward_accuracy"),
    "valid_loss": ("valid_loss",),
    "valid_mean_token_accuracy": ("valid_accuracy",),
}
"""The columns of a result file, and the numbers of a step. The first one that a step has is written."""


def result_csv(events: Iterable[str]) -> bytes:
    """Return the numbers of each step. A step that was made again after a fault is there once."""
    parsed = [json.loads(event) for event in events]
    steps = {event["step"]: event for event in parsed if event["type"] == "progress"}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for step in sorted(steps):
        found = steps[step]
        table.writerow(
            next((found[name] for name in names if name in found), "") for names in COLUMNS.values()
        )
    return text.getvalue().encode()


class JobProducts:
    """The result files of fine-tuning jobs, and their copies of models. Other jobs have none here."""

    def __init__(
        self,
        store: ObjectStore,
        publisher: Publisher,
        active: ActiveJobs,
        submission: Submission,
        retry: Retry,
        leadership: Unopposed,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._active = active
        self._submission = submission
        self._retry = retry
        self._leadership = leadership

    async def keep_results(self, job: ActiveJob) -> None:
        """Make the result file of a job that succeeds, trying again until storage has it."""
        if job.record.fine_tuning is None:
            return
        content = result_csv(job.events)
        try:
            await self._retry.call_async(lambda: self._keep(job.record, content))
        except Exception:
            logger.exception("job %s has no result file", job.record.id)

    async def _keep(self, record: JobRecord, content: bytes) -> None:
        self._leadership.require()
        user, file_id = record.user, result_file_id(record.id)
        try:
            await asyncio.to_thread(FileLists(self._store).find, user, file_id)
            return
        except FileNotFound:
            pass
        await asyncio.to_thread(self._write, user, file_id, content)
        file = FileRecord(
            id=file_id,
            filename=FILE_NAME,
            purpose=FilePurpose.FINE_TUNE_RESULTS,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            created=utc_now(),
        )
        await self._publisher.add_file(user, file)

    def _write(self, user: str, file_id: str, content: bytes) -> None:
        UnfinishedFiles(self._store).mark(user, file_id, Mark(expires=utc_now() + MOST_TIME))
        self._store.put(content_key(user, file_id), content)

    async def discard_model(self, job: ActiveJob) -> None:
        """Delete the copy that was made for a job without a revision, unless another training uses it."""
        record = job.record
        if record.fine_tuning is None or not record.fine_tuning.makes_model or record.checkpoints:
            return
        with self._submission.refusing(record.uid):
            if self._active.has_other(record):
                return
            try:
                await self._retry.call_async(lambda: self._discard(record))
            except Exception:
                logger.exception("the model of job %s, which has no revision, stays", record.id)

    async def _discard(self, record: JobRecord) -> None:
        self._leadership.require()
        with suppress(ModelNotFound):  # it was deleted before a crash
            model = await self._publisher.model(record.user, record.uid)
            if model.latest_revision == 0:
                await self._publisher.delete(record.user, record.uid, record.base_model)

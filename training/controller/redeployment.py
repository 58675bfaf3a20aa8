"""Changes which base models a controller trains, and how, while jobs wait and run.

settings  ->  BaseModels  ->  runs of changed and removed base models end after their current jobs
                          ->  runs that begin or cease to share their GPU end at once; their jobs go on
                          ->  jobs of a removed base model wait, and go on when it comes back
"""

from collections.abc import Collection, Mapping

from registry.tasks import BackgroundTasks
from training.controller.active_jobs import ActiveJobs
from training.controller.base_models import BaseModels, waits_for
from training.controller.dispatcher import Dispatcher
from training.controller.run_starts import EndRun
from training.controller.shared_gpus import SharedGpus
from training.controller.submission import Submission
from training.settings import TrainingSettings


class Redeployment:
    """The changes of the settings of one controller. One event loop uses it."""

    def __init__(
        self,
        base_models: BaseModels,
        dispatcher: Dispatcher,
        active: ActiveJobs,
        gpus: SharedGpus,
        submission: Submission,
        end_run: EndRun,
    ) -> None:
        self._base_models = base_models
        self._dispatcher = dispatcher
        self._active = active
        self._gpus = gpus
        self._submission = submission
        self._end_run = end_run
        self._background = BackgroundTasks()

    async def apply(
        self,
        settings: Mapping[str, TrainingSettings],
        max_queued_jobs_per_user: int,
        outdated: Collection[str],
    ) -> None:
        """Train the base models of `settings` from now on.

        The run of an `outdated` base model, or of one that was removed, ends after its current job. One whose
        workers have not entered yet, because they wait for resources, is ended at once (`RunStarts`). So is a
        run whose base model begins or ceases to share its GPU: its worker would keep memory that the
        replicas need, which start anew. Its job goes on in the next run, from the last saved state.
        """
        self._submission.max_queued_jobs_per_user = max_queued_jobs_per_user
        before = dict(self._base_models)
        self._base_models.replace(settings)
        shared, shares = _sharing(before), _sharing(settings)
        self._share_gpus(shared, shares)
        removed, added = before.keys() - settings.keys(), settings.keys() - before.keys()
        for base_model in {*outdated, *removed}:
            await self._dispatcher.end_run(base_model)
        for base_model in (shared ^ shares) & before.keys() & settings.keys():
            await self._end_at_once(base_model)
        for base_model in removed:
            await self._tell_waiting(base_model, waits_for(base_model))
        for base_model in added:
            await self._tell_waiting(base_model, f"Base model {base_model} is deployed again")
            self._dispatcher.serve(base_model)

    async def _end_at_once(self, base_model: str) -> None:
        if base_model in self._dispatcher.with_runs():
            await self._dispatcher.end_run(base_model)
            self._background.start(self._end_run(base_model))

    def _share_gpus(self, before: set[str], now: set[str]) -> None:
        for base_model in before - now:
            self._gpus.forget(base_model)
        self._background.start(self._gpus.take_all_back(now - before))

    async def _tell_waiting(self, base_model: str, message: str) -> None:
        for job_id in self._dispatcher.waiting(base_model):
            if (job := self._active.get(job_id)) is not None:
                await job.emit(type="info", message=message)


def _sharing(settings: Mapping[str, TrainingSettings]) -> set[str]:
    return {base_model for base_model, training in settings.items() if training.share_gpu}

"""Creates fine-tuning jobs: a file, a model and values become a training.

    files -> values -> the lines are read -> a replica counts the tokens -> a copy of the model -> a training

All checks are made within the request, and the cheap ones come first. So a job that is answered is queued,
and a request that is refused leaves nothing. From the copy on, the rest happens even if the client goes away.
With an Idempotency-Key, a repeated request finds the same copy and the same job.
"""

import asyncio
from contextlib import suppress

from registry.audit import Action
from registry.errors import InvalidRequest, ModelNotFound, QuotaExceeded, TigerError
from registry.fine_tuning import FineTuning
from registry.records import JobRecord, JobRequest, ModelRecord
from serve_app.api.audit import AuditedRequest
from serve_app.api.backends import Backends
from serve_app.api.fine_tuning.choices import Choice, check_choice, check_trained_tokens, choose
from serve_app.api.fine_tuning.file_reading import ReadJob
from serve_app.api.fine_tuning.job_files import files_of, number_of
from serve_app.api.fine_tuning.names import chosen_seed, model_name, unique_text
from serve_app.api.fine_tuning.packed_request import PackedRequest
from serve_app.catalog.references import Resolved
from serve_app.remote_errors import as_tiger_error
from serve_app.wire.fine_tuning import CreateFineTuningJob
from serve_app.wire.models import CreateModel


class JobCreation:
    """The creation of one job. `idempotency_key` is that of the request."""

    def __init__(
        self, backends: Backends, audit: AuditedRequest, user: str, idempotency_key: str | None
    ) -> None:
        self._backends = backends
        self._audit = audit
        self._user = user
        self._unique = unique_text(user, idempotency_key)
        self._key = None if idempotency_key is None else f"fine-tuning {self._unique}"

    async def create(self, request: CreateFineTuningJob) -> JobRecord:
        """Raises: InvalidRequest, ContextLengthExceeded, NoLearningSignal, FileNotFound, ModelNotFound,
        RevisionNotFound, QuotaExceeded, RateLimited, IdempotencyConflict, Unavailable.
        """
        backends, limits = self._backends, self._backends.settings.limits
        resolved = await backends.resolve(self._user, request.model)
        target = await self._target(resolved, request)
        files = await files_of(backends.store, self._user, request, limits)
        choice = choose(request.chosen(), number_of(files[0].record), limits.max_learning_steps)
        place = _place_of_values(request)
        alpha = resolved.private.alpha if resolved.private else 2.0 * resolved.base.rank
        check_choice(choice, alpha, place, limits)
        seed = chosen_seed(self._unique) if request.seed is None else request.seed
        empty = JobRequest(
            method=request.chosen().method, seed=seed, keeps_epochs=True, hyperparameters=choice.used
        )
        with backends.job_files_at_once.held_by(self._user) as take:
            take(1)
            async with backends.room_for_job_files:
                read = await backends.read_files(self._user, empty, files)
                check_trained_tokens(await self._num_tokens(resolved, read), choice, place, limits)
                if self._key is None:  # else the job of this key may exist already, and needs no room
                    await backends.trainer.require_room(self._user)
                shown = _shown(request, resolved, target is None, choice, seed)
                accepting = backends.accepting.start(self._accept(request, target, read, shown))
                try:
                    return await asyncio.shield(accepting)
                finally:  # if the client went away, its files are in memory until the job is accepted
                    await asyncio.wait([accepting])

    async def _target(self, resolved: Resolved, request: CreateFineTuningJob) -> ModelRecord | None:
        """Returns the model that the job teaches. None: a copy of the named one, which does not exist yet."""
        if resolved.private is None or request.suffix is not None:
            return None
        return await self._backends.private_model(self._user, request.model)

    async def _num_tokens(self, resolved: Resolved, read: ReadJob) -> int:
        """Returns the number of tokens of both files. Raises: InvalidRequest, with the number of a line."""
        server = await self._backends.tokenising_server(resolved.base.id)
        argument = PackedRequest(read.request).as_argument()
        most = self._backends.settings.limits.max_tokens_per_job
        try:
            return await server.count_training_tokens(self._user, argument, most, False)
        except Exception as error:
            refusal = as_tiger_error(error)
            raise read.with_line(refusal) if isinstance(refusal, InvalidRequest) else refusal from None

    async def _accept(
        self,
        request: CreateFineTuningJob,
        target: ModelRecord | None,
        read: ReadJob,
        shown: FineTuning,
    ) -> JobRecord:
        model = target or await self._copy(request, shown.model)
        try:
            return await self._submit(model, read, shown)
        except (QuotaExceeded, ModelNotFound):
            if target is None and self._key is None:  # a repeat with the same key takes the same copy
                with suppress(TigerError):  # it is still there, and its user can delete it
                    await self._backends.delete_model(self._user, model.id, self._audit)
            raise

    async def _copy(self, request: CreateFineTuningJob, parent: str) -> ModelRecord:
        """Makes the private copy that the job teaches."""
        body = CreateModel(
            name=model_name(parent.partition("@")[0], request.suffix, self._unique),
            description=f"Made by a fine-tuning job from {request.training_file}.",
            parent_model=request.model,
        )
        async with self._audit.recorded(Action.CREATE_MODEL) as made:
            try:
                model = await self._backends.catalog.create(self._user, body, self._key)
            except Exception as error:
                raise _of_model(as_tiger_error(error)) from None
            made |= {"model": model.id, "uid": model.uid}
        return model

    async def _submit(self, model: ModelRecord, read: ReadJob, shown: FineTuning) -> JobRecord:
        argument = PackedRequest(read.request).as_argument()
        async with self._audit.recorded(Action.ACCEPT_TRAINING, model=model.id, uid=model.uid) as made:
            record = await self._backends.trainer.submit(self._user, model, argument, self._key, shown)
            made["job"] = record.id
        return record


def _shown(
    request: CreateFineTuningJob, resolved: Resolved, makes_model: bool, choice: Choice, seed: int
) -> FineTuning:
    is_pinned = request.model not in (resolved.id, resolved.name)
    return FineTuning(
        method="dpo" if choice.shown.beta is not None else "supervised",
        model=f"{resolved.id}@{resolved.revision}" if is_pinned else resolved.id,
        makes_model=makes_model,
        training_file=request.training_file,
        validation_file=request.validation_file,
        suffix=request.suffix,
        metadata=request.metadata,
        seed=seed,
        hyperparameters=choice.shown,
    )


def _place_of_values(request: CreateFineTuningJob) -> str:
    if request.method is None:
        return "hyperparameters"
    return f"method.{request.method.type}.hyperparameters"


def _of_model(error: TigerError) -> TigerError:
    """Returns an error about the parent of a copy as one about the model of the job."""
    return type(error)(error.message, "model") if error.param in ("parent_model", "name") else error

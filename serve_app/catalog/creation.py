"""Creates private models: copies of base models, and of private models with their weights.

reservation of the Idempotency-Key -> mark -> copy of the adapter -> list of models -> mark removed

The mark is written first. If the process dies in between, the next start of the Catalog deletes the bytes.
"""

import asyncio
from contextlib import suppress

from registry.errors import (
    NO_SUCH_MODEL,
    InvalidRequest,
    ModelNotFound,
    NameTaken,
    QuotaExceeded,
    RevisionNotFound,
    Unavailable,
)
from registry.leadership import Unopposed
from registry.leftovers import Leftovers
from registry.records import ModelRecord, UserModels, generate_uid, utc_now
from registry.reservations import Reservations
from registry.revisions import Revisions
from registry.store import ObjectStore
from serve_app.catalog.model_lists import ModelLists, by_uid, others
from serve_app.catalog.names import Names
from serve_app.catalog.references import Resolved, Resolver
from serve_app.wire.models import CreateModel


class ModelCreation:
    """Creates the private models of all users. Raises (all): `Unavailable`, if storage cannot be reached."""

    def __init__(
        self,
        store: ObjectStore,
        lists: ModelLists,
        resolver: Resolver,
        max_models: int,
        leadership: Unopposed | None = None,
    ) -> None:
        self._lists = lists
        self._leadership = leadership or Unopposed()
        self._resolver = resolver
        self._names = Names(resolver)
        self._max_models = max_models
        self._revisions = Revisions(store)
        self._reservations = Reservations(store)
        self._leftovers = Leftovers(store)

    async def create(self, user: str, request: CreateModel, idempotency_key: str | None) -> ModelRecord:
        """Creates a model. The weights of a trained parent are copied inside the bucket.

        Raises:
            ModelNotFound, RevisionNotFound, NameTaken, InvalidRequest, QuotaExceeded.
            IdempotencyConflict: the key was used with another body.
        """
        await self._leadership.confirm()
        if idempotency_key is None:
            return await self._create(user, request, generate_uid())
        key = ("models", idempotency_key)
        body = request.model_dump_json().encode()
        reserved = await asyncio.to_thread(self._reservations.reserve, user, *key, body, generate_uid())
        made = next((m for m in (await self._lists.load(user)).models if m.uid == reserved.id), None)
        if reserved.is_done:
            if made is None:
                raise ModelNotFound("the model that this Idempotency-Key made was deleted")
            return made
        made = made or await self._create(user, request, reserved.id)
        await asyncio.to_thread(self._reservations.finish, user, *key, reserved)
        return made

    async def _create(self, user: str, request: CreateModel, uid: str) -> ModelRecord:
        models = (await self._lists.load(user)).models
        self._leadership.require()  # the load may have found the list of a later Catalog
        try:
            parent = self._resolver.resolve(models, request.parent_model)
        except (ModelNotFound, RevisionNotFound) as error:
            raise type(error)(error.message, "parent_model") from None
        model = _describe(request, parent, uid)
        self._names.check_free(others(models, uid), model.name)
        if parent.private is not None and parent.adapter_id is not None:
            await asyncio.to_thread(self._copy, user, parent.private.uid, parent.revision, model.uid)

        def add(current: UserModels) -> UserModels:
            if others(current.models, uid) != current.models:
                return current  # an earlier write of this model, of unknown outcome, succeeded
            if len(current.models) >= self._max_models:
                raise QuotaExceeded("you have as many models as you may have; delete one first")
            self._names.check_free(current.models, model.name)
            created = model.model_copy(update={"id": self._names.free_id(current.models, model.name)})
            return UserModels(models=(*current.models, created))

        try:
            created = by_uid(await self._lists.change(user, add), model.uid)
        except (NameTaken, QuotaExceeded):
            # A later Catalog may be making the model of the same reservation. It sweeps, too.
            await self._leadership.confirm(max_age_s=0)
            await asyncio.to_thread(self._leftovers.delete_model, model.uid)
            raise
        if parent.adapter_id is not None:
            with suppress(Unavailable):  # the model exists; the next sweep removes the mark
                await asyncio.to_thread(self._leftovers.clear, model.uid)
        return created

    def _copy(self, user: str, parent_uid: str, revision: int, uid: str) -> None:
        """Copies the parent's adapter to revision 0 of a model that is not in the list yet."""
        self._leftovers.mark(user, uid)
        try:
            self._revisions.copy(parent_uid, revision, uid)
        except RevisionNotFound:  # the parent was deleted a moment ago
            raise ModelNotFound(NO_SUCH_MODEL, "parent_model") from None


def _describe(request: CreateModel, parent: Resolved, uid: str) -> ModelRecord:
    """Returns the record of a new model, which has no id yet. Raises: InvalidRequest."""
    base, private = parent.base, parent.private
    if private is not None:
        if request.rank not in (None, private.rank):
            raise InvalidRequest(f"a copy has the rank of its parent, {private.rank}", "rank")
        if request.alpha not in (None, private.alpha):
            raise InvalidRequest(f"a copy has the alpha of its parent, {private.alpha:g}", "alpha")
    rank = private.rank if private else request.rank or base.rank
    if private is None and rank > base.max_rank:
        raise InvalidRequest(f"the rank is at most {base.max_rank} for this base model", "rank")
    now = utc_now()
    return ModelRecord(
        uid=uid,
        id="",
        name=request.name,
        description=request.description,
        base_model=base.id,
        parent_model=parent.name,
        rank=rank,
        alpha=private.alpha if private else request.alpha or 2.0 * rank,
        dropout=request.dropout or 0.0,
        defaults=request.over(private.defaults if private else base.defaults),
        created=now,
        last_modified=now,
        has_initial_adapter=parent.adapter_id is not None,
    )

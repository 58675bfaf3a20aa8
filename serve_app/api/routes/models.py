"""`/v1/models`: list, create, read, change, delete, revisions."""

from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path
from fastapi.responses import Response, StreamingResponse

from registry.audit import Action
from registry.errors import IdempotencyConflict, ModelInUse, NameTaken, QuotaExceeded
from registry.records import ModelRecord
from serve_app.api.adapter_archive import AdapterArchive, ArchiveResponse
from serve_app.api.answer_examples import (
    BASE_MODEL_INFO,
    DELETED_MODEL,
    MODEL_DETAIL,
    MODEL_INFO,
    MODEL_LINES,
    REVISION,
)
from serve_app.api.backends import (
    AuditDependency,
    Backends,
    BackendsDependency,
    PresumedUserDependency,
    UserDependency,
)
from serve_app.api.bodies import BoundedRoute
from serve_app.api.model_listing import as_array
from serve_app.api.openapi import BODY, MODEL, PRIVATE_MODEL, errors, one, streamed, success
from serve_app.api.streams import MEDIA_TYPE
from serve_app.api.value_limits import check_model_values
from serve_app.wire.base import IdempotencyKey
from serve_app.wire.models import ChangeModel, CreateModel, DeletedModel, ModelDetail, ModelInfo, RevisionInfo

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=BoundedRoute)

Ref = Annotated[str, Path(description="id or name of a model")]
Revision = Annotated[int, Path(ge=0, le=10**9, description="number of a revision")]
Accept = Annotated[str, Header(description="`application/x-ndjson`: one model per line")]

LISTING = success([BASE_MODEL_INFO, MODEL_INFO], "the models, in an array or one per line")
LISTING[200]["content"] |= streamed(MEDIA_TYPE, MODEL_LINES, "the objects of the array, one per line")
ARCHIVE = {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}


@router.get("", response_model=list[ModelInfo], response_model_exclude_none=True, responses=LISTING)
async def list_models(
    user: PresumedUserDependency, backends: BackendsDependency, accept: Accept = ""
) -> Response:
    """List all models that you may use: base models, the default first, then your own, oldest first.

    With `Accept: application/x-ndjson` the answer has one object per line.
    """
    lines = await backends.listing(user)
    if MEDIA_TYPE in accept:
        return Response(lines, media_type=MEDIA_TYPE)
    return Response(as_array(lines), media_type="application/json")


@router.post(
    "",
    status_code=201,
    response_model=ModelDetail,
    response_model_exclude_none=True,
    responses=success(MODEL_DETAIL, "the new model", 201)
    | errors(*BODY, *MODEL, NameTaken, IdempotencyConflict, QuotaExceeded),
)
async def create_model(
    request: CreateModel,
    user: UserDependency,
    backends: BackendsDependency,
    audit: AuditDependency,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Create a private copy of a base model or of one of your own models."""
    check_model_values(request, backends.settings.limits)
    async with audit.recorded(Action.CREATE_MODEL, 201) as made:
        model = await backends.catalog.create(user, request, idempotency_key)
        made |= {"model": model.id, "uid": model.uid}
    return ModelDetail.describe_private(model, is_training=False)


@router.get(
    "/{ref}",
    response_model=ModelDetail,
    response_model_exclude_none=True,
    responses=success(MODEL_DETAIL, "the model") | errors(*MODEL),
)
async def get_model(ref: Ref, user: UserDependency, backends: BackendsDependency) -> Any:
    """Get one model, with the values of its adapter and whether a training of it waits or runs."""
    resolved = await backends.resolve(user, ref)
    if resolved.private is None:
        is_default = resolved.base.id == backends.settings.default_model
        return ModelDetail.describe_base(resolved.base, is_default)
    model = resolved.private.model_copy(update={"revision": resolved.revision})
    return await _detail(backends, model)


@router.patch(
    "/{ref}",
    response_model=ModelDetail,
    response_model_exclude_none=True,
    responses=success(MODEL_DETAIL, "the changed model") | errors(*BODY, *PRIVATE_MODEL, NameTaken),
)
async def change_model(
    ref: Ref, request: ChangeModel, user: UserDependency, backends: BackendsDependency
) -> Any:
    """Change the name, the description or the defaults of one of your models. The id does not change."""
    check_model_values(request, backends.settings.limits)
    return await _detail(backends, await backends.catalog.change(user, ref, request))


@router.delete(
    "/{ref}",
    response_model=DeletedModel,
    responses=success(DELETED_MODEL, "the model is deleted") | errors(*PRIVATE_MODEL, ModelInUse),
)
async def delete_model(
    ref: Ref, user: UserDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Delete one of your models with all its revisions."""
    return DeletedModel(id=await backends.delete_model(user, ref, audit))


@router.get(
    "/{ref}/revisions",
    response_model=list[RevisionInfo],
    responses=success([REVISION], "the revisions") | errors(*PRIVATE_MODEL),
)
async def list_revisions(ref: Ref, user: UserDependency, backends: BackendsDependency) -> Any:
    """List the revisions of one of your models that have weights, newest first."""
    manifests = await backends.catalog.revisions(user, ref)
    return [RevisionInfo.of(manifest) for manifest in manifests]


@router.post(
    "/{ref}/revisions/{n}/activate",
    response_model=ModelDetail,
    response_model_exclude_none=True,
    responses=success(MODEL_DETAIL, "the model, at that revision") | errors(*PRIVATE_MODEL),
)
async def activate_revision(
    ref: Ref, n: Revision, user: UserDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Make revision `n` the current one. This goes back to an earlier revision, or forward again."""
    model = await backends.private_model(user, ref)
    async with audit.recorded(Action.ACTIVATE_REVISION, model=model.id, uid=model.uid, revision=str(n)):
        activated = await backends.catalog.activate(user, model.id, n)
    return await _detail(backends, activated)


@router.get(
    "/{ref}/revisions/{n}/adapter",
    response_class=StreamingResponse,
    responses=one(ARCHIVE, "the archive") | errors(*PRIVATE_MODEL),
)
async def download_adapter(ref: Ref, n: Revision, user: UserDependency, backends: BackendsDependency) -> Any:
    """Download the adapter of a revision as a tar archive. PEFT and vLLM can load the unpacked directory."""
    with ExitStack() as held:
        held.enter_context(backends.downloads.held_by(user))(1)
        model, manifest = await backends.catalog.manifest(user, ref, n)
        return ArchiveResponse(AdapterArchive(backends.store, model.id, manifest), held.pop_all())


async def _detail(backends: Backends, model: ModelRecord) -> ModelDetail:
    is_training = await backends.trainer.is_training(model.uid)
    return ModelDetail.describe_private(model, is_training, is_deployed=model.base_model in backends.servers)

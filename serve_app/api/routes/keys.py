"""`/v1/keys`: a user's own API keys."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from registry.audit import Action
from registry.errors import NO_SUCH_KEY, InvalidRequest, KeyNotFound, QuotaExceeded, RateLimited
from registry.keys import ID_PATTERN, generate_key, hash_key
from serve_app.api.answer_examples import CREATED_KEY, KEY, REVOKED_KEY
from serve_app.api.backends import AuditDependency, BackendsDependency, CallerDependency
from serve_app.api.bodies import BoundedRoute
from serve_app.api.openapi import BODY, errors, success
from serve_app.wire.keys import CreatedKey, CreateKey, OwnKey, RevokedKey

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=BoundedRoute)

KeyId = Annotated[str, Path(description="the id that `GET /v1/keys` shows")]


@router.post(
    "",
    status_code=201,
    response_model=CreatedKey,
    responses=success(CREATED_KEY, "the new key", 201) | errors(*BODY, QuotaExceeded, RateLimited),
)
async def create_key(
    request: CreateKey,
    caller: CallerDependency,
    backends: BackendsDependency,
    audit: AuditDependency,
    response: Response,
) -> Any:
    """Create another key of your own. Only this answer shows the key; it cannot be shown again.

    A key that expires can only create keys that expire at the same time or earlier.
    """
    maker = await backends.authenticator.record(caller.key_hash)
    expires = _within(maker.expires, request.expires)
    key = generate_key()
    hashes = hash_key(key), caller.key_hash
    async with audit.recorded(Action.CREATE_KEY, 201) as made:
        record = await backends.catalog.create_key(caller.user, request.name, expires, *hashes)
        made["key"] = record.id
    response.headers["Cache-Control"] = "no-store"
    return CreatedKey.of(record, None, key=key)


@router.get("", response_model=list[OwnKey], responses=success([{**KEY, "current": True}], "your keys"))
async def list_keys(caller: CallerDependency, backends: BackendsDependency) -> Any:
    """List your keys, oldest first. Expired keys are listed until they are revoked."""
    found = await backends.catalog.list_keys(caller.user)
    return [OwnKey.of_listed(listed, caller.key_hash) for listed in found]


@router.delete(
    "/{key_id}",
    response_model=RevokedKey,
    responses=success(REVOKED_KEY, "the key is revoked") | errors(KeyNotFound),
)
async def revoke_key(
    key_id: KeyId, caller: CallerDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Revoke one of your keys, which may be the key of this request.

    Within five seconds all requests with it are refused.
    """
    if not ID_PATTERN.fullmatch(key_id):
        raise KeyNotFound(NO_SUCH_KEY)
    # A request that can change nothing is not in the audit log, which is never shortened.
    await backends.catalog.require_key(caller.user, key_id, caller.key_hash)
    async with audit.recorded(Action.REVOKE_KEY, key=key_id):
        await backends.catalog.revoke_key(caller.user, key_id, caller.key_hash)
    return RevokedKey(id=key_id)


def _within(limit: datetime | None, asked: datetime | None) -> datetime | None:
    """Returns the time at which the new key expires. Raises: InvalidRequest."""
    if limit is not None and asked is not None and asked > limit:
        raise InvalidRequest("the new key must not expire later than the key of this request", "expires")
    return asked or limit

"""`GET /v1/me`: the user of a request."""

from typing import Any

from fastapi import APIRouter

from serve_app.api.backends import BackendsDependency, CallerDependency
from serve_app.api.openapi import success
from serve_app.api.operator_examples import ME
from serve_app.wire.keys import Key
from serve_app.wire.operator import Me

router = APIRouter(prefix="/v1", tags=["keys"])


@router.get("/me", response_model=Me, responses=success(ME, "you"))
async def get_me(caller: CallerDependency, backends: BackendsDependency) -> Any:
    """Get your user name and the description of the key of this request."""
    settings = backends.settings
    is_operator = caller.user in settings.operators
    return Me(
        user=caller.user,
        current_key=Key.of(await backends.authenticator.record(caller.key_hash), None),
        is_operator=is_operator,
        dashboard_url=settings.dashboard_url if is_operator else None,
    )

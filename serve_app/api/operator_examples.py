"""Examples of the answers of `GET /v1/me` and of `/v1/operator`, for /docs."""

from typing import Any

from serve_app.api.answer_examples import KEY, USED

ME: dict[str, Any] = {
    "user": "alice",
    "current_key": {**KEY, "last_used": None},
    "is_operator": False,
    "dashboard_url": None,
}
BASE_MODEL_STATE: dict[str, Any] = {
    "id": "smollm2-135m",
    "name": "SmolLM2-135M",
    "status": "ready",
    "max_replicas": 1,
    "replicas": [{"generations": 3}],
}
USERS_REPORT: dict[str, Any] = {
    "from": "2025-02-01",
    "to": "2025-02-02",
    "data": [{**USED, "user": "alice", "unfinished_trainings": 1}],
    "has_more": False,
}

"""A RequestEngine for each test, with its counts and its admission."""

import pytest

from serve_app.model_server.admission import Admission
from serve_app.model_server.request_engine import RequestEngine
from tests.support.request_engines import STEP_TOKENS, Build, Counts, FakeEngine


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def admission() -> Admission:
    return Admission(
        num_places=5,
        max_generations_per_user=8,
        max_tokens_per_user=1000,
        step_tokens=STEP_TOKENS,
        share_beside=3.0,
    )


@pytest.fixture
def build(counts: Counts, admission: Admission) -> Build:
    def build(
        engine: FakeEngine,
        user: str = "alice",
        num_prompts: int = 1,
        num_samples: int = 1,
        num_copies: int = 1,
    ) -> RequestEngine:
        return RequestEngine(engine, user, "mine", admission, counts, num_prompts, num_samples, num_copies)

    return build

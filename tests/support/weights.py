"""The weights of the real SmolLM2, converted once per machine: the conversion takes half a minute."""

from pathlib import Path

import pytest

from serve_app.instance.weights import prepare_weights
from serve_app.settings import load_settings


@pytest.fixture(scope="session")
def smollm2_weights(request: pytest.FixtureRequest) -> Path:
    """The directory that transformers and vLLM load. It is kept in pytest's cache between runs."""
    return prepare_weights(load_settings("local").models[0], request.config.cache.mkdir("weights"))

from pathlib import Path

from bench.gpu.published import REVISION, publish_models
from registry.revisions import Revisions
from registry.store import ObjectStore
from registry.user_models import UserModelStore
from serve_app.settings import load_settings


def test_every_published_model_has_the_adapter_which_is_stored_once(
    store: ObjectStore, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    ids = publish_models(store, load_settings("local").models[0], adapter, "adapters", 3)
    models = UserModelStore(store).load("adapters").models.models
    assert [model.id for model in models] == ids
    for number, model in enumerate(models):
        assert model.adapter_id(model.revision) == f"{model.uid}@{REVISION}"
        fetched = tmp_path / f"fetched-{number}"
        Revisions(store).fetch(model.uid, REVISION, fetched)
        assert (fetched / "adapter_model.safetensors").read_bytes() == b"weights"
    weights = [key for key in store.list("models/") if key.endswith(".safetensors")]
    assert len(weights) == 1

"""Settings, models and revisions for tests of the Catalog."""

from pathlib import Path
from typing import Any

from registry.records import Defaults, ModelRecord, utc_now
from registry.revisions import Revisions
from registry.settings import StorageSettings
from serve_app.catalog.catalog import Catalog
from serve_app.catalog.references import Resolved, Resolver
from serve_app.settings import BaseModelSettings, LimitSettings, Settings
from serve_app.wire.models import CreateModel

USER = "alice"


def base_model(base_id: str, name: str) -> BaseModelSettings:
    return BaseModelSettings(
        id=base_id, name=name, description="", last_modified=utc_now(), source="/nowhere",
        max_context_tokens=64, rank=8, max_rank=16, defaults=Defaults(beta=0.5),
    )  # fmt: skip


def settings_of(storage: StorageSettings) -> Settings:
    return Settings(
        storage=storage,
        default_model="base",
        models=(base_model("base", "Base"), base_model("other-1", "Other")),
        limits=LimitSettings(max_models_per_user=25),
    )


async def create(
    catalog: Catalog, name: str = "Mine", parent: str = "base", user: str = USER, **more: Any
) -> ModelRecord:
    return await catalog.create(user, CreateModel(name=name, description="", parent_model=parent, **more))


def write_adapter(directory: Path, weights: bytes) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text("{}")
    (directory / "adapter_model.safetensors").write_bytes(weights)


async def trained(
    catalog: Catalog, revisions: Revisions, directory: Path, name: str = "Mine", times: int = 1
) -> ModelRecord:
    """A model with as many revisions, whose weights are their numbers."""
    model = await create(catalog, name)
    for revision in range(1, times + 1):
        write_adapter(directory, b"%d" % revision)
        revisions.publish(
            model.uid, directory, revision=revision, parent_revision=revision - 1, job=f"job-{revision}",
            base_model="base", metrics={},
        )  # fmt: skip
        model = await catalog.publish(USER, model.uid, revision)
    return model


async def names(catalog: Catalog, user: str = USER) -> list[str]:
    return [model.name for model in await catalog.private_models(user)]


async def resolve(catalog: Catalog, ref: str | None) -> Resolved:
    """The model that a reference means for USER, as an ingress replica finds it."""
    return Resolver(settings_of(StorageSettings())).resolve(await catalog.private_models(USER), ref)

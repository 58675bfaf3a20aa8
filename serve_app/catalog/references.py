"""Finds the model that a reference means for one user. The ingress and the Catalog use it."""

import re
from dataclasses import dataclass

from registry.errors import (
    NO_SUCH_MODEL,
    InvalidRequest,
    ModelNotFound,
    ModelReadOnly,
    RevisionNotFound,
    Unavailable,
)
from registry.records import ModelRecord
from serve_app.settings import BaseModelSettings, Settings

REVISION_REFERENCE = re.compile(r"^(?P<ref>.+)@(?P<revision>\d{1,9})$", re.DOTALL)


def not_deployed(base_model: str) -> Unavailable:
    return Unavailable(f"base model {base_model} is not deployed; models that are copies of it wait for it")


@dataclass(frozen=True)
class Resolved:
    """The model and the revision that a reference means for one user."""

    deployed_base: BaseModelSettings | None
    """The base model. None: the operator has removed it, and `private` is a copy of it."""
    private: ModelRecord | None
    revision: int

    @property
    def base(self) -> BaseModelSettings:
        """The base model. Raises: Unavailable, if the operator has removed it."""
        if self.deployed_base is None:
            assert self.private is not None
            raise not_deployed(self.private.base_model)
        return self.deployed_base

    @property
    def id(self) -> str:
        return self.private.id if self.private else self.base.id

    @property
    def name(self) -> str:
        return self.private.name if self.private else self.base.name

    @property
    def adapter_id(self) -> str | None:
        return self.private.adapter_id(self.revision) if self.private else None


class Resolver:
    """Finds models by reference, which is an id or a name. `models` are the user's private models.

    `settings` may be replaced at any time.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def resolve(self, models: tuple[ModelRecord, ...], ref: str | None) -> Resolved:
        """Finds the model of `ref`: an id or a name, also with `@N`. None means the default model.

        Raises:
            ModelNotFound: unknown, or another user's.
            RevisionNotFound: the model has no such revision.
        """
        if ref is None:
            return Resolved(self.settings.base_model(self.settings.default_model), None, 0)
        pinned = REVISION_REFERENCE.match(ref)
        name = pinned["ref"] if pinned else ref
        private = find_model(models, name)
        base = self._base_of(private) if private else self.find_base(name)
        if private is None and base is None:
            raise ModelNotFound(NO_SUCH_MODEL, "model")
        revision = int(pinned["revision"]) if pinned else private.revision if private else 0
        if pinned and (private is None or revision > private.latest_revision):
            raise RevisionNotFound("the model has no such revision", "model")
        return Resolved(base, private, revision)

    def private_model(self, models: tuple[ModelRecord, ...], ref: str) -> ModelRecord:
        """Finds a private model.

        Raises: ModelNotFound; ModelReadOnly for a base model; InvalidRequest for `ref@N`.
        """
        resolved = self.resolve(models, ref)
        if resolved.private is None:
            raise ModelReadOnly(
                "a base model cannot be changed, trained or deleted; make a copy first", "model"
            )
        if find_model((resolved.private,), ref) is None:
            raise InvalidRequest("name the model without a revision here", "model")
        return resolved.private

    def find_base(self, name: str) -> BaseModelSettings | None:
        return next((base for base in self.settings.models if name in (base.id, base.name)), None)

    def _base_of(self, model: ModelRecord) -> BaseModelSettings | None:
        return next((base for base in self.settings.models if base.id == model.base_model), None)


def find_model(models: tuple[ModelRecord, ...], ref: str) -> ModelRecord | None:
    return next((model for model in models if ref in (model.id, model.name)), None)

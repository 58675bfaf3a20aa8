"""Requests and answers of `/v1/models`: models and their revisions."""

import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field

from registry.records import Defaults, Manifest, ModelRecord, Timestamp
from serve_app.settings import BaseModelSettings
from serve_app.wire.base import Answer, Metrics, Ref, Request

MAX_DESCRIPTION_CHARACTERS = 4096
UNREACHABLE_NAMES = (".", "..")
"""Clients and proxies remove these parts from a path, so no request could name such a model."""


def _valid_name(name: str) -> str:
    if not name.isprintable() or not name.strip() or "/" in name or "@" in name:
        raise ValueError(
            "a name must consist of printable characters, not only of spaces, without `/` and `@`"
        )
    if name in UNREACHABLE_NAMES:
        raise ValueError(f"a model cannot have the name '{name}': no path can lead to it")
    return name


def _valid_description(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" and character not in "\n\r\t" for character in text):
        raise ValueError("a description must not contain control characters other than line ends and tabs")
    return text


Name = Annotated[
    str,
    Field(
        min_length=1, max_length=64, description="printable characters, without `/` and `@`; not `.` or `..`"
    ),
    AfterValidator(_valid_name),
]
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARACTERS), AfterValidator(_valid_description)]
Temperature = Annotated[
    float, Field(ge=0, le=2, description="temperature of sampling; 0: always the most likely token")
]
TopP = Annotated[
    float, Field(gt=0, le=1, description="sample from the most likely tokens with this total probability")
]
LearningRate = Annotated[
    float, Field(gt=0, description="constant learning rate of AdamW; the operator sets an upper limit")
]
LearningSteps = Annotated[
    int,
    Field(
        ge=1, le=1000, description="number of optimizer steps of a training; the operator sets an upper limit"
    ),
]
Beta = Annotated[
    float,
    Field(
        ge=0,
        description="weight of the KL divergence from the base model; the operator sets an upper limit",
    ),
]
Epsilon = Annotated[float, Field(gt=0, lt=1, description="a training clips probability ratios to 1 +/- this")]
Rank = Annotated[
    int, Field(ge=1, le=4096, description="rank of the adapter; each base model has an upper limit")
]
Alpha = Annotated[
    float,
    Field(
        gt=0,
        description="alpha of the adapter; default: twice its rank; the operator sets an upper limit",
    ),
]
Dropout = Annotated[float, Field(ge=0, lt=1, description="dropout of the adapter in trainings")]
CurrentRevision = Annotated[int, Field(ge=0, description="current revision; 0 before the first training")]


class DefaultValues(Request):
    """The six defaults of a model, each optional."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    learning_rate: LearningRate | None = None
    learning_steps: LearningSteps | None = None
    beta: Beta | None = None
    epsilon: Epsilon | None = None

    def over(self, defaults: Defaults) -> Defaults:
        given = self.model_dump(include=set(Defaults.model_fields), exclude_none=True)
        return defaults.model_copy(update=given)


class CreateModel(DefaultValues):
    name: Name
    description: Description
    parent_model: Ref = Field(description="id or name of a base model or of one of your own models")
    rank: Rank | None = None
    alpha: Alpha | None = None
    dropout: Dropout | None = None


class ChangeModel(DefaultValues):
    name: Name | None = None
    description: Description | None = None


class ModelInfo(Answer):
    """One model that the caller may use."""

    name: str
    id: str = Field(description="URL-safe id made of the name; unique among your models; never changes")
    description: str
    read_only: bool = Field(description="true for base models")
    parent_model: str | None = Field(None, description="name that the parent had when it was copied")
    revision: CurrentRevision
    last_modified: Timestamp
    default_model: bool = Field(description="true for the one model that answers if a request names none")
    temperature: Temperature
    top_p: TopP
    learning_rate: LearningRate
    learning_steps: LearningSteps
    beta: Beta
    epsilon: Epsilon

    @classmethod
    def of_base(cls, model: BaseModelSettings, is_default: bool) -> Self:
        return cls(
            name=model.name,
            id=model.id,
            description=model.description,
            read_only=True,
            revision=0,
            last_modified=model.last_modified,
            default_model=is_default,
            **model.defaults.model_dump(),
        )

    @classmethod
    def of_private(cls, model: ModelRecord, **detail: Any) -> Self:
        return cls(
            name=model.name,
            id=model.id,
            description=model.description,
            read_only=False,
            parent_model=model.parent_model,
            revision=model.revision,
            last_modified=model.last_modified,
            default_model=False,
            **model.defaults.model_dump(),
            **detail,
        )


class ModelDetail(ModelInfo):
    """A model with the values of its adapter. A base model has no rank, alpha, dropout or created."""

    base_model: str = Field(description="id of the base model")
    rank: Rank | None = None
    alpha: Alpha | None = None
    dropout: Dropout | None = None
    created: Timestamp | None = None
    status: Literal["ready", "training", "unavailable"] = Field(
        description="`training`: a training waits or runs; `unavailable`: its base model was removed"
    )

    @classmethod
    def describe_base(cls, model: BaseModelSettings, is_default: bool) -> Self:
        info = ModelInfo.of_base(model, is_default)
        return cls(**info.model_dump(), base_model=model.id, status="ready")

    @classmethod
    def describe_private(cls, model: ModelRecord, is_training: bool, is_deployed: bool = True) -> Self:
        return cls.of_private(
            model,
            base_model=model.base_model,
            rank=model.rank,
            alpha=model.alpha,
            dropout=model.dropout,
            created=model.created,
            status="unavailable" if not is_deployed else "training" if is_training else "ready",
        )


class DeletedModel(Answer):
    id: str
    message: str = "model has been deleted"


class RevisionInfo(Answer):
    """A revision with weights."""

    revision: int
    parent_revision: int | None = Field(description="revision that the training began with; null: a copy")
    created: Timestamp
    job: str | None = Field(description="id of the training that made the revision; null: a copy")
    metrics: Metrics
    size_bytes: int = Field(ge=0, description="size of all files of the adapter")
    sha256: str = Field(description="digest of the adapter's weights")

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        return cls(
            size_bytes=manifest.size_bytes,
            sha256=manifest.sha256,
            **manifest.model_dump(include={"revision", "parent_revision", "created", "job", "metrics"}),
        )

"""The records of the bucket, as frozen pydantic models. The types of HTTP are in `serve_app/wire/`."""

import re
import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, StringConstraints

from registry.fine_tuning import FineTuning
from registry.record_base import Record as Record
from registry.record_base import added_later as added_later

USER_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"

User = Annotated[str, StringConstraints(pattern=USER_PATTERN)]
Timestamp = Annotated[
    datetime,
    PlainSerializer(
        lambda t: t.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        when_used="json",
    ),
]


def utc_now() -> datetime:
    """The current time, cut to the milliseconds that are stored and shown."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def generate_uid() -> str:
    """A model's storage identity: 128 random bits, never reused, safe in a key."""
    return secrets.token_hex(16)


def model_id_from_name(name: str) -> str:
    """`MyCustomModel` -> `mycustommodel`: lower-cased and made URL-safe."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "model"


class Defaults(Record):
    """The six values that generate_response and train use if a request gives none."""

    temperature: float = Field(0.7, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(0.95, gt=0, le=1)
    learning_rate: float = Field(1e-5, gt=0, allow_inf_nan=False)
    learning_steps: int = Field(5, ge=1, le=1000)
    beta: float = Field(0.04, ge=0, allow_inf_nan=False)
    epsilon: float = Field(0.2, gt=0, lt=1)


class ModelRecord(Record):
    """A private model. `revision` is the current one; `latest_revision` only grows."""

    uid: str
    id: str
    name: str
    description: str
    base_model: str = Field(description="id of the base model")
    parent_model: str = Field(description="name that the parent had when this model was created")
    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)
    defaults: Defaults
    created: Timestamp
    last_modified: Timestamp
    revision: int = 0
    latest_revision: int = 0
    has_initial_adapter: bool = Field(
        False, description="True: revision 0 has weights, as in a copy of a trained parent"
    )

    def adapter_id(self, revision: int) -> str | None:
        """The adapter's name for a revision; None if the base model answers without an adapter."""
        if revision == 0 and not self.has_initial_adapter:
            return None
        return f"{self.uid}@{revision}"


class UserModels(Record):
    """`users/<user>/models.json`: the private models of one user, oldest first."""

    models: tuple[ModelRecord, ...] = ()


class KeyRecord(Record):
    """`keys/<sha256 of key>.json`. The key itself is stored nowhere."""

    id: str = Field(description="random and public; names the key, and does not contain it")
    user: User
    name: str
    created: Timestamp
    expires: Timestamp | None = Field(None, description="the key is refused from then on; None: never")

    def is_expired(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


class AdapterFile(Record):
    name: str
    key: str = Field(description="key of the bytes in the bucket, below the store's prefix")
    size_bytes: int
    sha256: str


class Manifest(Record):
    """The object of a revision that is written last. Without it the revision does not exist."""

    revision: int
    parent_revision: int | None = Field(description="the revision it was trained from; None for a copy")
    job: str | None = Field(description="the job that made it; None for a copy")
    step: int | None = added_later(None, "the step of a checkpoint; None: the last revision of its job")
    base_model: str
    created: Timestamp
    metrics: dict[str, float] = Field({})
    files: tuple[AdapterFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def sha256(self) -> str:
        """The digest of the weights file, which identifies the revision."""
        return next(file.sha256 for file in self.files if file.name.endswith(".safetensors"))


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    """Only shown, for a job that is held. `JobRecord.status` is never this."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class Method(StrEnum):
    """The way in which a training teaches."""

    GRPO = "grpo"
    SUPERVISED = "supervised"
    DPO = "dpo"


class CalledFunction(Record):
    name: str
    arguments: dict[str, Any]


class ToolCall(Record):
    id: str
    function: CalledFunction


class Message(Record):
    """One turn of a conversation, with the fields that chat templates know."""

    role: str
    content: str = ""
    name: str | None = added_later(None)
    tool_calls: tuple[ToolCall, ...] = added_later(())
    tool_call_id: str | None = added_later(None)
    is_trained: bool = added_later(True, "false: nothing is learned about this turn of the assistant")


class RewardedResponse(Record):
    """A response to the messages of a group: a text, or a trajectory of several turns."""

    content: str = ""
    reward: float = Field(allow_inf_nan=False)
    ends_turn: bool = Field(
        True, description="false: the response was cut, so its last token is not an end of turn"
    )
    messages: tuple[Message, ...] = added_later((), "a trajectory, which replaces `content`")


class Group(Record):
    """One prompt and its rewarded responses; advantages are normalised inside it."""

    messages: tuple[Message, ...]
    responses: tuple[RewardedResponse, ...]
    tools: tuple[dict[str, Any], ...] = added_later(())


class Example(Record):
    """A conversation whose assistant's turns are imitated."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="factor of the loss of its tokens")


class Pair(Record):
    """A prompt and two responses, of which the first is preferred."""

    messages: tuple[Message, ...]
    preferred: tuple[Message, ...]
    rejected: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


class Schedule(StrEnum):
    """The course of the learning rate after the warm-up."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class Hyperparameters(Record):
    """The values of one training. The method says which of them it uses.

    `learning_steps` is the number of optimizer steps. A step of GRPO is over all responses. A step of the
    other methods is over `batch_size` examples or pairs.
    """

    learning_rate: float
    learning_steps: int
    beta: float
    epsilon: float
    batch_size: int | None = added_later(None, "examples or pairs of a step; None: all")
    warmup_ratio: float = added_later(0.0, "part of the steps with a growing rate", ge=0, le=1)
    schedule: Schedule = added_later(Schedule.CONSTANT)


class JobRequest(Record):
    """`jobs/<user>/<id>/request.json`: written once, before the job is accepted."""

    method: Method = added_later(Method.GRPO)
    groups: tuple[Group, ...] = ()
    examples: tuple[Example, ...] = added_later(())
    pairs: tuple[Pair, ...] = added_later(())
    validation_examples: tuple[Example, ...] = added_later((), "measured, and not learned")
    validation_pairs: tuple[Pair, ...] = added_later((), "measured, and not learned")
    seed: int | None = added_later(None, "decides the order of the examples or pairs; None: the job's id")
    keeps_epochs: bool = added_later(False, "true: each epoch ends in a revision, not the last one alone")
    hyperparameters: Hyperparameters


class Checkpoint(Record):
    """A revision that a job made at the end of an epoch, while it goes on."""

    revision: int
    step: int
    created: Timestamp
    metrics: dict[str, float] = Field({})


class JobError(Record):
    code: str
    message: str


class JobRecord(Record):
    """`jobs/<user>/<id>/job.json`: the state of one training."""

    id: str
    user: User
    uid: str
    model: str = Field(description="id of the private model")
    base_model: str
    status: JobStatus = JobStatus.QUEUED
    created: Timestamp
    started: Timestamp | None = None
    finished: Timestamp | None = None
    parent_revision: int | None = Field(None, description="fixed when the job starts")
    revision: int | None = Field(None, description="the revision that it makes; fixed when the job starts")
    attempt: int = 0
    stalled_attempts: int = Field(0, description="attempts in a row that came no further than those before")
    furthest_step: int = Field(0, description="the last step that an earlier attempt reached")
    step: int = 0
    steps: int
    metrics: dict[str, float] = Field({})
    trained_tokens: int = 0
    duration_s: float = 0.0
    error: JobError | None = None
    is_cancelled: bool = Field(False, description="to be cancelled; a running job ends within a pack")
    is_paused: bool = Field(False, description="the job has begun, and other users have their turn")
    is_held: bool = added_later(False, "its user has paused the job until they resume it")
    checkpoints: tuple[Checkpoint, ...] = added_later((), "oldest first; the last revision is not among them")
    fine_tuning: FineTuning | None = added_later(None, "kept for OpenAI's API; no training reads it")
    epoch: int = Field(0, description="that of the Trainer which wrote this record; it names the events")

    @property
    def only_ends(self) -> bool:
        """True if nothing is left of the job but its end, because it was cancelled or has failed."""
        return self.is_cancelled or self.error is not None

    @property
    def shown_status(self) -> JobStatus:
        """The status that users see: a job that is held is paused, unless it has ended."""
        return JobStatus.PAUSED if self.is_held and not self.status.is_terminal else self.status

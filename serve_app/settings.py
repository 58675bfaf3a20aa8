"""All settings of an installation: environment over file over default, frozen, no unknown keys.

    configs/local.yaml  ->  Settings  <-  TIGER_HTTP__PORT=8000

A section lives beside its owner (`registry.settings`, `training.settings`); this file composes them.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from registry.records import Defaults, Record, Timestamp
from registry.settings import StorageSettings
from serve_app.http_settings import HttpSettings
from training.settings import TrainingSettings

CONFIG_DIRECTORY = Path(__file__).resolve().parent.parent / "configs"


Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s*]+)$")]


class IngressSettings(Record):
    num_replicas: int = Field(1, ge=1)
    num_cpus: float = Field(1, ge=0)
    max_ongoing_requests: int = Field(
        100_000, ge=1, description="Serve's bound for everybody together: above what the others let in"
    )
    max_request_bytes: int = Field(
        8 * 2**20, ge=1024, le=2**25, description="of a body; it goes on to other deployments in one message"
    )
    max_request_values: int = Field(
        2**16, ge=1024, description="in a JSON body: they, and not its bytes, are what parsing it costs"
    )
    max_request_depth: int = Field(100, ge=16, le=200, description="of lists and objects in a JSON body")
    body_timeout_s: float = Field(60, gt=0, description="in which the whole body of a request arrives")
    allowed_origins: tuple[Origin, ...] = Field(
        (), description="of pages that may use the API in a browser, such as `https://chat.example.com`"
    )
    max_unknown_keys_per_address: int = Field(
        64, ge=1, description="being looked up in storage at a time, at one ingress replica"
    )


class LimitSettings(Record):
    """What one user, and one training, may ask of everybody's machines."""

    max_models_per_user: int = Field(
        1000, ge=1, le=3000, description="their descriptions go between deployments in one message"
    )
    max_keys_per_user: int = Field(100, ge=1, description="expired ones too, until they are revoked")
    max_queued_jobs_per_user: int = Field(100, ge=1, description="trainings that have not ended")
    max_responses_per_job: int = Field(4096, ge=2, description="over all groups of a training")
    max_tokens_per_job: int = Field(
        2**20, ge=1, description="prompt and completion of every response of a training, added up"
    )
    max_learning_steps: int = Field(1000, ge=1, le=1000, description="optimizer steps of a training")
    max_trained_tokens_per_job: int = Field(
        2**26, ge=1, description="tokens of a training times its steps: how long it may take"
    )
    max_learning_rate: float = Field(0.1, gt=0, allow_inf_nan=False)
    max_alpha: float = Field(1024, gt=0, allow_inf_nan=False, description="of an adapter")
    max_beta: float = Field(100, ge=0, allow_inf_nan=False)
    max_waiting_length_checks_per_user: int = Field(
        8,
        ge=1,
        description="on one replica: trainings whose tokens are to be counted before they are accepted",
    )
    max_answer_tokens: int = Field(
        2**18, ge=1, le=2**18, description="of all samples of an answer that is not streamed"
    )
    max_log_probs_per_answer: int = Field(
        2**17, ge=1, le=2**17, description="in an answer that is not streamed, over all its tokens"
    )
    max_requests_per_minute_per_user: int | None = Field(
        3000, ge=1, description="over all ingress replicas, each of which allows its share; None: any number"
    )
    max_concurrent_requests_per_user: int = Field(
        1024, ge=1, description="of all kinds, waiting and streaming ones too, at one ingress replica"
    )
    max_concurrent_downloads_per_user: int = Field(4, ge=1, description="of adapters, at one ingress replica")
    max_concurrent_generations_per_user: int = Field(
        512, ge=1, description="on one replica; each of `n` samples is one"
    )
    max_queued_tokens_per_user: int = Field(
        2**22, ge=1, description="on one replica: prompt and max_tokens of generations that have not ended"
    )


class UsageSettings(Record):
    """How what is used is accounted for."""

    flush_interval_s: float = Field(
        30, gt=0, description="between writes to the bucket: what a crash may leave uncounted"
    )


class AcceleratorSettings(Record):
    kind: Literal["cpu", "gpu"] = "gpu"
    type: str | None = Field(None, description="Ray accelerator type, for example H100; None: any")


class ReplicaSettings(Record):
    """The vLLM replicas of one base model."""

    num_replicas: int = Field(1, ge=1)
    num_cpus: float = Field(1, ge=0)
    accelerator: AcceleratorSettings = AcceleratorSettings()
    max_adapters: int = Field(64, ge=1, description="adapters kept ready on one replica")
    share_beside: float = Field(
        1,
        gt=0,
        le=3,
        description="of the engine's free places, so many times may one user have beside others",
    )
    engine: dict[str, Any] = Field({}, description="vLLM engine arguments")
    environment: dict[str, str] = Field({}, description="environment of the engine's processes")


class BaseModelSettings(Record):
    """A base model: what the listing says of it, where its weights are, how it is served."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    name: str = Field(min_length=1, max_length=64, pattern=r"^[^/@]+$")
    description: str
    last_modified: Timestamp
    source: str = Field(
        description="a Hugging Face repository, an absolute path, or "
        "`package:<import name>/<file.gguf>` for weights shipped in a Python package"
    )
    defaults: Defaults = Defaults()
    chat_template: str | None = Field(
        None,
        description="a file of `training/chat_templates` without its ending, or an absolute path; "
        "None: the template that comes with the weights",
    )
    max_context_tokens: int = Field(ge=16, description="prompt and completion together")
    default_max_tokens: int = Field(512, ge=1, description="when a request gives no max_tokens")
    rank: int = Field(16, ge=1, description="of an adapter when a request gives none")
    max_rank: int = Field(32, ge=1)
    serving: ReplicaSettings = ReplicaSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _rank_fits(self) -> Self:
        if self.rank > self.max_rank:
            raise ValueError(f"rank {self.rank} is above max_rank {self.max_rank}")
        return self

    def weights_path(self, weights_directory: Path) -> str:
        """What vLLM and transformers load: a repository id, or a directory."""
        if self.source.startswith("package:"):
            return str(weights_directory / self.id)
        return self.source


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="TIGER_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    http: HttpSettings = HttpSettings()
    storage: StorageSettings = StorageSettings()
    ingress: IngressSettings = IngressSettings()
    limits: LimitSettings = LimitSettings()
    usage: UsageSettings = UsageSettings()
    weights_directory: Path = Field(
        Path("~/.cache/tiger/weights"), description="where weights shipped in packages are converted to"
    )
    default_model: str = Field(description="id of the base model that answers when none is named")
    models: tuple[BaseModelSettings, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _references_hold(self) -> Self:
        names = [name for model in self.models for name in {model.id, model.name}]
        if len(set(names)) != len(names):
            raise ValueError("models: every id and name must be unique")
        if self.default_model not in {model.id for model in self.models}:
            raise ValueError(f"default_model: no model has the id {self.default_model!r}")
        return self

    @model_validator(mode="after")
    def _defaults_are_within_limits(self) -> Self:
        for model in self.models:
            if model.defaults.learning_rate > self.limits.max_learning_rate:
                raise ValueError(f"models: the learning_rate of {model.id} is above limits.max_learning_rate")
            if model.defaults.beta > self.limits.max_beta:
                raise ValueError(f"models: the beta of {model.id} is above limits.max_beta")
            if 2 * model.rank > self.limits.max_alpha:
                raise ValueError(f"models: twice the rank of {model.id} is above limits.max_alpha")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    def base_model(self, base_model_id: str) -> BaseModelSettings:
        return next(model for model in self.models if model.id == base_model_id)


def load_settings(config: str) -> Settings:
    """Read `config`: the name of a file in `configs/` without its ending, or a path to one.

    Raises:
        FileNotFoundError: there is no such file.
        pydantic.ValidationError: the file or the environment holds a wrong or unknown key.
    """
    path = Path(config) if config.endswith((".yaml", ".yml")) else CONFIG_DIRECTORY / f"{config}.yaml"
    return Settings(**yaml.safe_load(path.read_text()))

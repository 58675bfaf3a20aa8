"""All settings of an installation. They are frozen and refuse unknown keys.

    configs/local.yaml  ->  Settings  <-  TIGER_HTTP__PORT=8000

The environment wins over the file, and the file wins over the default. Some sections are beside the code that
owns them (`registry.settings`, `training.settings`). This file composes all of them.
"""

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from registry.records import Defaults, Record, Timestamp, User
from registry.settings import StorageSettings
from serve_app.budget_settings import BudgetSettings
from serve_app.gpu_shares import GpuShare, check_shares
from serve_app.http_settings import HttpSettings
from serve_app.scaling_settings import Autoscaling, ReplicaLife, require_one_number
from serve_app.serving_settings import ServedModelSettings

CONFIG_DIRECTORY = Path(__file__).resolve().parent.parent / "configs"


Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s*]+)$")]
PageUrl = Annotated[str, Field(max_length=2048, pattern=r"^https?://[^/\s]+(/\S*)?$")]


class IngressSettings(ReplicaLife):
    num_replicas: int = Field(1, ge=1, description="number of replicas without `autoscaling`")
    autoscaling: Autoscaling | None = Field(
        None, description="bounds of a number of replicas that follows the load; None: `num_replicas`"
    )
    num_cpus: float = Field(1, ge=0)
    max_ongoing_requests: int = Field(
        100_000, ge=1, description="Serve's bound for all users together, higher than the other limits"
    )
    max_request_bytes: int = Field(
        8 * 2**20, ge=1024, le=2**25, description="size of a body, which goes to deployments in one message"
    )
    max_request_values: int = Field(
        2**16, ge=1024, description="values in a JSON body; the cost of parsing depends on their number"
    )
    max_request_depth: int = Field(100, ge=16, le=200, description="levels of lists and objects in a body")
    body_timeout_s: float = Field(60, gt=0, description="time in which the whole body must arrive")
    max_file_bytes: int = Field(
        512 * 2**20, ge=1024, le=2**32, description="size of a file that a user uploads"
    )
    upload_timeout_s: float = Field(3600, gt=0, description="time in which a whole file must arrive")
    max_concurrent_uploads: int = Field(
        32, ge=1, description="uploads of files of all users at one ingress replica; each holds about 24 MiB"
    )
    allowed_origins: tuple[Origin, ...] = Field(
        (), description="origins of pages that may use the API in a browser: `https://chat.example.com`"
    )
    max_unknown_keys_per_address: int = Field(
        64, ge=1, description="keys of one address being looked up in storage, at one ingress replica"
    )

    @property
    def most_replicas(self) -> int:
        return self.autoscaling.max_replicas if self.autoscaling else self.num_replicas

    @property
    def least_replicas(self) -> int:
        return self.autoscaling.min_replicas if self.autoscaling else self.num_replicas

    @model_validator(mode="after")
    def _load_can_be_reached(self) -> Self:
        require_one_number(self.num_replicas, self.autoscaling)
        if self.autoscaling and self.autoscaling.target_ongoing_requests > self.max_ongoing_requests:
            raise ValueError(
                "autoscaling.target_ongoing_requests: it is above max_ongoing_requests, so that no replica "
                "would ever be added"
            )
        return self


class LimitSettings(BudgetSettings):
    """The limits of one user and of one training."""

    max_models_per_user: int = Field(
        1000, ge=1, le=3000, description="private models, which go between deployments in one message"
    )
    max_keys_per_user: int = Field(100, ge=1, description="keys, with expired ones that are not revoked")
    max_queued_jobs_per_user: int = Field(100, ge=1, description="trainings that have not ended")
    max_responses_per_job: int = Field(4096, ge=2, description="responses in all groups of a training")
    max_examples_per_job: int = Field(16_384, ge=1, description="examples or pairs of a training")
    max_tokens_per_job: int = Field(
        2**20, ge=1, description="sum of the tokens of all responses of a training, each with its prompt"
    )
    max_learning_steps: int = Field(1000, ge=1, le=1000, description="optimizer steps of a training")
    max_trained_tokens_per_job: int = Field(
        2**26, ge=1, description="tokens of a training times its steps, which bounds its duration"
    )
    max_learning_rate: float = Field(0.1, gt=0, allow_inf_nan=False)
    max_alpha: float = Field(1024, gt=0, allow_inf_nan=False, description="alpha of an adapter")
    max_beta: float = Field(100, ge=0, allow_inf_nan=False)
    max_waiting_length_checks_per_user: int = Field(
        8,
        ge=1,
        description="new trainings on one replica whose tokens have not been counted yet",
    )
    max_answer_tokens: int = Field(
        2**18, ge=1, le=2**18, description="tokens of all samples of an answer that is not streamed"
    )
    max_log_probs_per_answer: int = Field(
        2**17, ge=1, le=2**17, description="log-probabilities in an answer that is not streamed"
    )
    max_requests_per_minute_per_user: int | None = Field(
        3000, ge=1, description="over all ingress replicas, each of which allows its share; None: no limit"
    )
    max_concurrent_requests_per_user: int = Field(
        1024, ge=1, description="requests of all kinds in progress at one ingress replica"
    )
    max_concurrent_downloads_per_user: int = Field(
        4, ge=1, description="downloads of adapters and files in progress at one ingress replica"
    )
    max_concurrent_uploads_per_user: int = Field(
        2, ge=1, description="uploads of files in progress at one ingress replica"
    )
    max_files_per_user: int = Field(1000, ge=1, le=10_000, description="files, which are in one list")
    max_file_bytes_per_user: int = Field(10 * 2**30, ge=1, description="sizes of all files together")
    max_concurrent_generations_per_user: int = Field(
        512, ge=1, description="generations in progress on one replica; each of `n` samples is one"
    )
    max_queued_tokens_per_user: int = Field(
        2**22, ge=1, description="prompt tokens and max_tokens of generations in progress on one replica"
    )


class UsageSettings(Record):
    """The settings of usage accounting."""

    flush_interval_s: float = Field(
        30, gt=0, description="time between writes to the bucket; a crash can lose the usage of this time"
    )


class BaseModelSettings(ServedModelSettings):
    """A base model: its entry in the list of models, its weights, and how it is served and trained."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[^/@]+$")
    description: str
    last_modified: Timestamp
    defaults: Defaults = Defaults()
    rank: int = Field(16, ge=1, description="rank of an adapter if a request gives none")

    @model_validator(mode="after")
    def _rank_fits(self) -> Self:
        if self.rank > self.max_rank:
            raise ValueError(f"rank {self.rank} is above max_rank {self.max_rank}")
        return self

    @property
    def gpu_share(self) -> GpuShare:
        return GpuShare(
            base_model=self.id,
            num_replicas=self.serving.most_replicas,
            gpus_per_replica=self.serving.num_gpus,
            serving_memory=self.serving.engine.get("gpu_memory_utilization"),
            num_workers=self.training.num_workers,
            gpus_per_worker=self.training.num_gpus,
            training_memory=self.training.gpu_memory_utilization,
            takes_turns=self.training.share_gpu,
        )


class SharedSettings(BaseSettings):
    """The settings that the replicas of base models need too. TIGER_* variables win over given values."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="TIGER_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

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

    storage: StorageSettings = StorageSettings()
    limits: LimitSettings = LimitSettings()
    usage: UsageSettings = UsageSettings()
    weights_directory: Path = Field(
        Path("~/.cache/tiger/weights"), description="directory of weights converted from packages"
    )
    model_paths: dict[str, Path] = Field(
        {}, description="directories with weights by id of their base model, in place of `models[].source`"
    )


class Settings(SharedSettings):
    http: HttpSettings = HttpSettings()
    ingress: IngressSettings = IngressSettings()
    default_model: str = Field(description="id of the base model for requests that name none")
    operators: tuple[User, ...] = Field(
        (), description="users who may use `/v1/operator`, which shows the state of the service and all users"
    )
    dashboard_url: PageUrl | None = Field(
        None, description="address of Ray's dashboard, to which the console links for operators"
    )
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
    def _model_paths_are_of_models(self) -> Self:
        ids = {model.id for model in self.models}
        for model_id, path in self.model_paths.items():
            if model_id not in ids:
                raise ValueError(f"model_paths: no model has the id {model_id!r}")
            if not path.is_absolute():
                raise ValueError(f"model_paths: the path of {model_id} must be absolute")
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

    @model_validator(mode="after")
    def _gpus_suffice(self) -> Self:
        check_shares([model.gpu_share for model in self.models])
        return self

    def base_model(self, base_model_id: str) -> BaseModelSettings:
        return next(model for model in self.models if model.id == base_model_id)


def load_settings(config: str) -> Settings:
    """Reads `config`: the name of a file in `configs/` without its extension, or a path to a file.

    Raises:
        FileNotFoundError: there is no such file.
        pydantic.ValidationError: the file or the environment holds a wrong or unknown key.
    """
    return build_settings(read_document(config))


def read_document(config: str) -> dict[str, Any]:
    """Returns the contents of the file that `config` names. Raises: FileNotFoundError."""
    path = Path(config) if config.endswith((".yaml", ".yml")) else CONFIG_DIRECTORY / f"{config}.yaml"
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def build_settings(document: dict[str, Any]) -> Settings:
    """Returns the settings of a document, TIGER_* variables over it. Raises: pydantic.ValidationError."""
    return with_model_paths(Settings(**document))


def with_model_paths(settings: Settings) -> Settings:
    """Returns the settings with the directories of `model_paths` as the sources of their models."""
    paths = settings.model_paths
    models = tuple(
        model.model_copy(update={"source": str(paths[model.id])}) if model.id in paths else model
        for model in settings.models
    )
    return settings.model_copy(update={"models": models})

"""The base models that are trained now, with their settings. The operator may change both at any time."""

from collections.abc import Iterator, Mapping

from training.settings import TrainingSettings


def waits_for(base_model: str) -> str:
    """The event of a training whose base model is not deployed."""
    return f"Base model {base_model} is not deployed; the training waits for it"


class BaseModels(Mapping[str, TrainingSettings]):
    """The settings by base model. `in` and iteration concern the base models that are deployed now.

    The settings of a base model that was removed can still be read, because its run may work on a job.
    """

    def __init__(self, settings: Mapping[str, TrainingSettings]) -> None:
        self._settings = dict(settings)
        self._deployed = set(settings)

    def replace(self, settings: Mapping[str, TrainingSettings]) -> None:
        self._settings.update(settings)
        self._deployed = set(settings)

    def __getitem__(self, base_model: str) -> TrainingSettings:
        return self._settings[base_model]

    def __contains__(self, base_model: object) -> bool:
        return base_model in self._deployed

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._deployed))

    def __len__(self) -> int:
        return len(self._deployed)

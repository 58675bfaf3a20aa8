"""The names and ids that a user's new model may have. A reference must mean one model only."""

from registry.errors import NameTaken
from registry.records import ModelRecord, model_id_from_name
from serve_app.catalog.references import Resolver, find_model


class Names:
    """Names and ids among those of the base models and of a user's private models, which are `models`."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def check_free(self, models: tuple[ModelRecord, ...], name: str) -> None:
        """Raises: NameTaken, if a model has this name or this id."""
        if self._is_taken(models, name):
            raise NameTaken("there is a model of that name already", "name")

    def free_id(self, models: tuple[ModelRecord, ...], name: str) -> str:
        """Returns an id made from the name. It has a number if the id without one is taken."""
        wanted = model_id_from_name(name)
        candidate, number = wanted, 2
        while candidate != name and self._is_taken(models, candidate):
            candidate, number = f"{wanted}-{number}", number + 1
        return candidate

    def _is_taken(self, models: tuple[ModelRecord, ...], ref: str) -> bool:
        return self._resolver.find_base(ref) is not None or find_model(models, ref) is not None

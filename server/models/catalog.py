"""The table of served versions: which one a request gets, by number, by label or by default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from server.errors import NotServed
from server.limits import quote
from server.models.model_settings import DEFAULT_SETTINGS, ModelSettings
from server.models.served_model import ServedModel
from server.models.served_versions import ServedVersions
from server.request import InFlightRequest

__all__ = ["Catalog", "ServedModel"]

_MAX_LISTED: Final = 20  # names in a message


class Catalog(Mapping[str, ServedModel]):
    """The served versions of every model, sorted by name; as a mapping, the default version of each.

    Only the event loop changes it, and never in place, so threads may read it.
    """

    def __init__(self) -> None:
        self._models: dict[str, ServedVersions] = {}
        self._defaults: dict[str, ServedModel] = {}
        self._chosen: dict[str, tuple[int | None, ModelSettings]] = {}

    def add(self, model: ServedModel) -> None:
        """Serves a version beside the others of its model; it replaces the same version."""
        name = model.card.name
        self._update(name, {**self._by_version(name), model.card.version: model})

    def remove(self, name: str, version: int | None = None) -> None:
        """Stops serving a version of a model, or all of them for None."""
        kept = {} if version is None else {v: model for v, model in self._by_version(name).items() if v != version}
        self._update(name, kept)

    def choose(self, name: str, preferred: int | None, settings: ModelSettings) -> None:
        """Sets which version of a model is the default while it is served, and the labels of its versions.

        Args:
            name: name of the model.
            preferred: a version; None means the newest served one.
            settings: from the model's config.pbtxt.
        """
        self._chosen[name] = (preferred, settings)
        self._update(name, self._by_version(name))

    def settings(self, name: str) -> ModelSettings:
        """The settings of a model; the default ones if it has none."""
        return self._chosen.get(name, (None, DEFAULT_SETTINGS))[1]

    def forget(self, name: str) -> None:
        """Undoes `choose`."""
        self._chosen.pop(name, None)

    def versions(self, name: str | None = None) -> list[ServedModel]:
        """All served versions of a model, or of all models for None, by name, the oldest first."""
        models = self._models
        if name is None:
            return [model for versions in models.values() for model in versions.by_version.values()]
        return list(models[name].by_version.values()) if name in models else []

    def version(self, name: str, version: int) -> ServedModel | None:
        """A served version; None if it is not served."""
        return self._by_version(name).get(version)

    def resolve(self, name: str, version: int | str) -> ServedModel | None:
        """Returns a served version; None if it is not served.

        Args:
            name: name of the model.
            version: a number, a label, or 0 for the default version.
        """
        versions = self._models.get(name)
        return None if versions is None else versions.resolve(version)

    def find(self, name: str, version: int | str, request: InFlightRequest) -> ServedModel:
        """Returns the requested model, records it on the request, and keeps it open until the request is answered.

        Call it at most once per request.

        Args:
            name: name of the model.
            version: a number, a label, or 0 for the default version.
            request: the request.

        Raises:
            NotServed: the model or version is not served; the message lists what is.
        """
        request.model = name
        versions = self._models.get(name)
        if versions is None:
            names = list(self._models)
            listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
            wanted = f"no model {quote(name)} is served" if name else "model is empty"
            remedy = f"use one of {listed}" if names else "no model is loaded, so try again later"
            raise NotServed(f"{wanted}: {remedy}")
        model = versions.resolve(version)
        if model is None:
            raise versions.not_served(version)
        request.version = model.card.version
        model.enter()
        request.pinned = model
        return model

    def __getitem__(self, name: str) -> ServedModel:
        return self._defaults[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._defaults)

    def __len__(self) -> int:
        return len(self._defaults)

    def _by_version(self, name: str) -> Mapping[int, ServedModel]:
        versions = self._models.get(name)
        return {} if versions is None else versions.by_version

    def _update(self, name: str, versions: Mapping[int, ServedModel]) -> None:
        models = {other: known for other, known in self._models.items() if other != name}
        if versions:
            preferred, settings = self._chosen.get(name, (None, DEFAULT_SETTINGS))
            models[name] = ServedVersions(versions, preferred, settings.labels)
        models = dict(sorted(models.items()))
        self._models, self._defaults = models, {name: known.default for name, known in models.items()}

"""The statistics of every version that is served or was: a model's counters go on when its version changes.

Versions are found in the catalog, when a request is counted and when somebody looks. Knows no Prometheus.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final, NamedTuple
from weakref import WeakSet

from server.models.catalog import ServedModel
from server.request import Call
from server.statistics import ModelStatistics

MAX_APART: Final = 8  # versions of a model, the newest ones: older ones are in use no more, and are counted together


class _Version(NamedTuple):
    number: int
    statistics: ModelStatistics


class _History:
    """The versions of one model, the newest last; there is always one."""

    def __init__(self, model: ServedModel) -> None:
        self._past = ModelStatistics()
        self._versions = [_Version(model.card.version, model.statistics)]
        # Also those that are past: a thread that looked into the catalog long ago may come with one of them.
        self._counted = WeakSet([model.statistics])

    @property
    def newest(self) -> ModelStatistics:
        return self._versions[-1].statistics

    def of_version(self, number: int) -> ModelStatistics:
        for known in reversed(self._versions):
            if known.number == number:
                return known.statistics
        return self.newest

    def add(self, model: ServedModel) -> None:
        if model.statistics in self._counted:
            return
        self._counted.add(model.statistics)
        self._versions.append(_Version(model.card.version, model.statistics))
        if len(self._versions) > MAX_APART:
            self._past.add(self._versions.pop(0).statistics)

    def total(self) -> ModelStatistics:
        total = ModelStatistics()
        total.add(self._past)
        for known in self._versions:
            total.add(known.statistics)
        return total


class VersionHistory:
    """Finds the statistics that a request belongs to, and adds up those of each model.

    Args:
        catalog: the served models, which threads may read.
    """

    def __init__(self, catalog: Mapping[str, ServedModel]) -> None:
        self._catalog = catalog
        self._histories: dict[str, _History] = {}
        self._changing = threading.Lock()  # both the event loop and a thread that looks may find a new version
        self._of_no_model = ModelStatistics()

    def statistics_of(self, call: Call) -> ModelStatistics:
        """Statistics of the version that answered a request, on the event loop.

        If none did, of the newest of that model; and if there never was such a model, of no model.
        """
        name = call.model
        model = self._catalog.get(name)
        if model is not None:
            history = self._note(model)
            if call.version in (0, model.card.version):
                return model.statistics
        elif name in self._histories:  # it is unloaded
            history = self._histories[name]
        else:
            return self._of_no_model
        return history.of_version(call.version)

    def totals(self) -> dict[str, ModelStatistics]:
        """Statistics of each model, of all its versions together, by name; from any thread."""
        for model in list(self._catalog.values()):
            self._note(model)
        with self._changing:
            return {name: history.total() for name, history in sorted(self._histories.items())}

    def of_no_model(self) -> ModelStatistics:
        """Statistics of requests that were for no model, or for one that never was."""
        return self._of_no_model

    def _note(self, model: ServedModel) -> _History:
        name = model.card.name
        history = self._histories.get(name)
        if history is None or history.newest is not model.statistics:
            with self._changing:
                history = self._histories.get(name)
                if history is None:
                    history = self._histories[name] = _History(model)
                history.add(model)
        return history

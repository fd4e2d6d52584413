"""What is being served: the one table whose entries a change of versions swaps. Knows no protocol, no runtime."""

from __future__ import annotations

import asyncio
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass, field

from ganserve.bundle import Card
from server.errors import NotServed
from server.limits import quote
from server.scheduling.batcher import Batcher
from server.statistics import ModelStatistics


@dataclass(eq=False)
class ServedModel:
    """One version of a model.

    Whoever computes with it says so with `enter` and `leave`, on the event loop: it may be swapped or unloaded under
    them, and is closed when the last one has left. Counted, as references would say it too late: what a failed request
    left behind may be kept for a long time.
    """

    card: Card
    backend: str  # "onnx" or "torchscript"
    device: str  # "cpu", "cuda:0"
    precision: str  # "fp32", or that of the engine which computes large batches
    batcher: Batcher
    statistics: ModelStatistics
    file_bytes: Mapping[str, int] = field(default_factory=dict)  # of the files that the card lists and that are there
    users: int = field(default=0, init=False)  # who have entered and not left
    _left: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def enter(self) -> None:
        """Keeps it from being closed until `leave`."""
        self.users += 1

    def leave(self) -> None:
        """Undoes one `enter`."""
        self.users -= 1
        if not self.users:
            self._left.set()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps it from being closed meanwhile."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    async def unused(self) -> None:
        """Returns when nobody uses it; to be asked once nobody can find it any more."""
        while self.users:
            self._left.clear()
            await self._left.wait()

    @property
    def ready(self) -> bool:
        """False while an engine is being rebuilt."""
        return not self.batcher.broken

    @property
    def max_batch_rows(self) -> int:
        """The most rows that are computed at once."""
        return self.batcher.groups.full_rows

    def __str__(self) -> str:
        return f"{self.card.name}:{self.card.version}"


class Catalog(Mapping[str, ServedModel]):
    """The served models by name, sorted; changed on the event loop only, and never in place, so threads may read it."""

    def __init__(self) -> None:
        self._models: dict[str, ServedModel] = {}

    def add(self, model: ServedModel) -> None:
        """Serves a model, in place of one of the same name."""
        self._models = dict(sorted({**self._models, model.card.name: model}.items()))

    def remove(self, name: str) -> None:
        """Serves a model no more."""
        self._models = {other: model for other, model in self._models.items() if other != name}

    def __getitem__(self, name: str) -> ServedModel:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    # Those of Mapping look each name up again, when it may be gone.

    def keys(self) -> KeysView[str]:
        """The names as they are now."""
        return self._models.keys()

    def values(self) -> ValuesView[ServedModel]:
        """The models as they are now."""
        return self._models.values()

    def items(self) -> ItemsView[str, ServedModel]:
        """Names and models as they are now."""
        return self._models.items()


_MAX_LISTED = 20  # names that a message lists


def find_model(name: str, version: int, served: Mapping[str, int]) -> str:
    """Returns the name of the served model that is meant; `served` gives the version of each name, 0 means it.

    Raises:
        NotServed: there is none.
    """
    if name not in served:
        names = sorted(served)
        listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
        wanted = f"no model {quote(name)} is served" if name else "model is empty"
        raise NotServed(f"{wanted}: " + (f"use one of {listed}" if served else "none is now, so try again once one is"))
    if version not in (0, served[name]):
        raise NotServed(
            f"version {version} of {name!r} is not served: use version {served[name]}, or 0 for the newest one"
        )
    return name

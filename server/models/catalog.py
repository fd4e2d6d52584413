"""The table of served models; a new version replaces an entry."""

from __future__ import annotations

import asyncio
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from ganserve.bundle import Card
from server.errors import NotServed
from server.limits import Contract, quote
from server.request import InFlightRequest
from server.scheduling.batcher import Batcher
from server.statistics import ModelStatistics

_MAX_LISTED: Final = 20  # names in a message


@dataclass(eq=False)
class ServedModel:
    """One version of a model.

    Users call `enter` and `leave` on the event loop. If it is replaced or unloaded in between, it is closed when the
    last user leaves. Users are counted explicitly because references can outlive a failed request for a long time.
    """

    contract: Contract
    backend: str  # "onnx" or "torchscript"
    device: str  # "cpu", "cuda:0"
    precision: str  # of the engine that computes large batches: "fp32", "bf16", "fp16"
    batcher: Batcher
    statistics: ModelStatistics
    file_bytes: Mapping[str, int] = field(default_factory=dict)  # of the files that the card lists and that exist
    card: Card = field(init=False)
    users: int = field(default=0, init=False)
    _left: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        self.card = self.contract.card

    def enter(self) -> None:
        """Keeps the model open until `leave`."""
        self.users += 1

    def leave(self) -> None:
        """Undoes one `enter`."""
        self.users -= 1
        if not self.users:
            self._left.set()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the model open until the context exits."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    async def unused(self) -> None:
        """Returns when the model has no users; remove it from the catalog first."""
        while self.users:
            self._left.clear()
            await self._left.wait()

    @property
    def ready(self) -> bool:
        """False while an engine is being rebuilt."""
        return not self.batcher.broken

    @property
    def max_batch_rows(self) -> int:
        """The most rows per batch."""
        return self.batcher.groups.full_rows

    def __str__(self) -> str:
        return f"{self.card.name}:{self.card.version}"


class Catalog(Mapping[str, ServedModel]):
    """The served models by name, sorted. Only the event loop changes it, and never in place, so threads may read it."""

    def __init__(self) -> None:
        self._models: dict[str, ServedModel] = {}

    def add(self, model: ServedModel) -> None:
        """Serves a model; it replaces one of the same name."""
        self._models = dict(sorted({**self._models, model.card.name: model}.items()))

    def remove(self, name: str) -> None:
        """Stops serving a model."""
        self._models = {other: model for other, model in self._models.items() if other != name}

    def find(self, name: str, version: int, request: InFlightRequest) -> ServedModel:
        """Returns the requested model, records it on the request, and keeps it open until the request is answered.

        Call it at most once per request.

        Args:
            name: name of the model.
            version: the served version, or 0 for the newest one.
            request: the request.

        Raises:
            NotServed: the model or version is not served; the message lists what is.
        """
        request.model = name
        model = self._models.get(name)
        if model is None:
            names = list(self._models)
            listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
            wanted = f"no model {quote(name)} is served" if name else "model is empty"
            remedy = f"use one of {listed}" if names else "no model is loaded, so try again later"
            raise NotServed(f"{wanted}: {remedy}")
        served = model.card.version
        if version not in (0, served):
            raise NotServed(
                f"version {version} of {name!r} is not served: use version {served}, or 0 for the newest one"
            )
        request.version = served
        model.enter()
        request.pinned = model
        return model

    def __getitem__(self, name: str) -> ServedModel:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    # The methods of Mapping look up each name again, when it may be gone.

    def keys(self) -> KeysView[str]:
        """A snapshot of the names."""
        return self._models.keys()

    def values(self) -> ValuesView[ServedModel]:
        """A snapshot of the models."""
        return self._models.values()

    def items(self) -> ItemsView[str, ServedModel]:
        """A snapshot of names and models."""
        return self._models.items()

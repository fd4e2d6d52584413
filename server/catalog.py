"""What is being served: the one table whose entries a change of versions would swap. Knows no protocol, no runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from exporter.bundle import Card
from server.batcher import Batcher


@dataclass(frozen=True)
class ServedModel:
    """One version of a model, ready to answer."""

    card: Card
    backend: str  # "onnx" or "torchscript"
    device: str  # "cpu", "cuda:0"
    batcher: Batcher

    def __str__(self) -> str:
        return f"{self.card.name}:{self.card.version}"


class Catalog(Mapping[str, ServedModel]):
    """The served models by name, sorted; used on the event loop only."""

    def __init__(self) -> None:
        self._models: dict[str, ServedModel] = {}

    def add(self, model: ServedModel) -> None:
        """Serves a model, in place of one of the same name."""
        self._models = dict(sorted({**self._models, model.card.name: model}.items()))

    def __getitem__(self, name: str) -> ServedModel:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

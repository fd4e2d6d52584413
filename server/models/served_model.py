"""One served version of a model, which stays open while requests use it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from ganserve.bundle import Card
from server.limits import Contract
from server.request import InFlightRequest
from server.scheduling.batcher import Batcher
from server.statistics import ModelStatistics


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

    def answer_at_once(
        self,
        inputs: NDArray[Any],
        outputs: frozenset[str],
        requests: Sequence[InFlightRequest],
        rows: Sequence[int],
        serialize: Callable[[Mapping[str, NDArray[Any]]], list[bytes]],
    ) -> list[bytes]:
        """Answers requests that came together as one batch, on the event loop.

        Args:
            inputs: the rows of all requests, in their order.
            outputs: names of the outputs to compute.
            requests: what to fill in.
            rows: number of rows of each request.
            serialize: makes the answer to each request from the outputs of all rows.

        Returns:
            The answers; none if the requests have to be answered one by one.
        """
        began_s = time.perf_counter()
        arrays = self.batcher.answer_at_once(inputs, outputs, len(requests))
        if arrays is None:
            return []
        computed_s = time.perf_counter()
        answers = serialize(arrays)
        encode_s = (time.perf_counter() - computed_s) / len(requests)
        for request, count in zip(requests, rows, strict=True):
            request.model, request.version, request.rows = self.card.name, self.card.version, count
            request.admission_s = began_s - request.began_s
            request.compute_s = computed_s - began_s
            request.encode_s = encode_s
        return answers

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

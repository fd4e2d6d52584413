"""Chooses which instance of a model computes which rows. No queue, no threads, no clock.

On a CPU, several single-threaded engines have the highest throughput, and one engine on all cores has the lowest
latency for a small request of a lone client. So a model has both. An idle server uses the wide instance, or splits a
large request among the narrow ones; a busy server keeps every narrow instance full. Each narrow instance may have a
counterpart in reduced precision, which replaces it for large batches. The event loop itself runs batches that take less
time than handing them to a thread, and a quick row of a lone client, because that delays no other request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy.typing import NDArray

from server.scheduling.queue import Outputs

Run = Callable[[NDArray[Any], frozenset[str]], Outputs]


@dataclass(eq=False)
class Instance:
    """One engine, or a share of one, that computes one batch at a time."""

    group: str  # "narrow", "wide", "bf16", "cuda:0": a label of metrics
    run: Run  # maps inputs (rows, ...) and the wanted output names to those outputs, with the same number of rows
    cores: int = 1  # busy during a run
    max_rows: int = 1
    quick_rows: int = 0  # up to this many take a few milliseconds: the event loop may run them for a lone client
    padded_rows: Callable[[int], int] = field(default=lambda rows: rows)  # rows computed for a batch of this many
    probe: Callable[[], object] | None = None  # runs known good rows; raises if the engine is broken
    close: Callable[[], object] | None = None  # frees the engine; slow
    large: Instance | None = None  # replaces it for large batches
    instead_of: Instance | None = None  # the narrow instance that it replaces


class Share(NamedTuple):
    """An instance, the most rows to compute on it, and whether to run them on the event loop."""

    instance: Instance
    rows: int
    inline: bool


@dataclass(frozen=True)
class GroupLimits:
    """Which batches each group of instances computes; measured at load.

    The defaults suit a slow model that has only narrow instances.
    """

    inline_rows: int = 0  # batches up to this size run on the event loop
    min_share_rows: int = 1  # requests are split into pieces of at least this size
    wide_rows: int = 0  # requests of a lone client up to this size run on the wide instance


class InstanceGroups:
    """Tracks which instances of a model are free. For the event loop only.

    Args:
        narrow: instances that run in parallel; at least one.
        wide: an instance on all cores, for few rows.
        limits: which batches each of them computes.
    """

    def __init__(
        self,
        narrow: Sequence[Instance],
        *,
        wide: Instance | None = None,
        limits: GroupLimits | None = None,
    ) -> None:
        self._narrow = list(narrow)
        self._free = list(reversed(self._narrow))
        self._wide = wide
        self.limits = limits or GroupLimits()
        self._wide_taken = False
        self._large_rows = 1

    @classmethod
    def of(cls, run: Run, max_rows: int, concurrency: int = 1) -> InstanceGroups:
        """Groups of `concurrency` equal narrow instances around one callable."""
        return cls([Instance("narrow", run, max_rows=max_rows) for _ in range(concurrency)])

    @property
    def instances(self) -> list[Instance]:
        """All instances."""
        large = (instance.large for instance in self._narrow)
        return [*self._narrow, *(instance for instance in (self._wide, *large) if instance is not None)]

    @property
    def concurrency(self) -> int:
        """The most batches computed at once."""
        return len(self._narrow)

    @property
    def full_rows(self) -> int:
        """The rows of a full batch: waiting for more gains nothing."""
        return (self._narrow[0].large or self._narrow[0]).max_rows

    @property
    def free(self) -> bool:
        """Whether any instance is free."""
        return not self._wide_taken and bool(self._free)

    def add_large(self, instances: Sequence[Instance], min_rows: int) -> None:
        """Computes batches of `min_rows` rows or more on these instances from now on, one per narrow instance."""
        self._large_rows = min_rows
        for narrow, large in zip(self._narrow, instances, strict=True):
            narrow.large, large.instead_of = large, narrow

    def close(self) -> None:
        """Frees the engines; slow, and no instance may be running."""
        close_instances(self.instances)

    def inline_instance(self, rows: int) -> Instance | None:
        """A free instance that computes `rows` rows faster than a thread could take over, or None."""
        return self._free[-1] if rows <= self.limits.inline_rows and self.free else None

    def take(self, rows: int, *, lone: bool = False) -> list[Share]:
        """Takes instances for all or some of the waiting rows, until `give_back`; no share if no instance is free.

        Args:
            rows: number of waiting rows; at least 1.
            lone: whether they belong to the only request, and no other is expected soon.
        """
        if not self.free:
            return []
        limits, idle = self.limits, len(self._free) == len(self._narrow)
        if rows <= limits.inline_rows:
            return [self._share(rows, inline=True)]
        if lone and self._wide is not None and idle and rows <= limits.wide_rows:
            self._wide_taken = True
            return [Share(self._wide, min(rows, self._wide.max_rows), rows <= self._wide.quick_rows)]
        if lone and idle and rows <= self._free[-1].quick_rows:
            return [self._share(rows, inline=True)]
        pieces = max(1, min(len(self._free), rows // limits.min_share_rows))
        shares = []
        for left in range(pieces, 0, -1):
            shares.append(self._share(-(-rows // left), inline=False))
            rows -= shares[-1].rows
        return shares

    def side_by_side(self, instance: Instance) -> int:
        """The number of batches that run at once while this instance is used."""
        return 1 if instance is self._wide else len(self._narrow)

    def give_back(self, instance: Instance) -> None:
        """Returns an instance that was taken."""
        if instance is self._wide:
            self._wide_taken = False
        else:
            self._free.append(instance.instead_of or instance)

    def _share(self, rows: int, *, inline: bool) -> Share:
        instance = self._free.pop()
        if not inline and instance.large is not None and rows >= self._large_rows:
            instance = instance.large
        return Share(instance, min(rows, instance.max_rows), inline)


@dataclass(frozen=True)
class LoadedInstances:
    """The instances of a model, and what kind of engines they use."""

    groups: InstanceGroups
    backend: str  # "onnx" or "torchscript"
    device: str  # "cpu", "cuda:0", "cuda:0,1"
    precision: str  # of the engines that compute most rows


def close_instances(instances: Sequence[Instance]) -> None:
    """Frees the engines of some instances, even if references to the instances remain; safe to call twice."""
    for instance in instances:
        if instance.close is not None:
            instance.close()
        instance.run, instance.probe, instance.close = _closed, None, None


def _closed(_: object, __: object) -> Outputs:
    raise RuntimeError("the engine is closed")

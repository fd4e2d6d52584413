"""Chooses which instance of a model computes which rows. No queue, no threads, no clock.

On a CPU, several engines of one thread each compute most images a second, and one engine on all cores answers a lone
small request soonest. So a model has both: an idle server takes the wide instance, or shares one large request out
among the narrow ones, and a busy server keeps every narrow instance filled. Beside each narrow instance there may be
one of reduced precision, which takes its place for large batches. Batches that take less time than handing them to a
thread are run on the event loop itself, and so is the quick one of a lone caller, as nobody else is held up.
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
    """Room for one batch at a time on one engine."""

    group: str  # "narrow", "wide", "bf16", "cuda:0": a label of metrics
    run: Run  # maps inputs (rows, ...) and the wanted output names to those outputs, each of as many rows
    cores: int = 1  # that a run keeps busy
    max_rows: int = 1
    quick_rows: int = 0  # so many take a few milliseconds at most, so the event loop may run them for a lone caller
    padded_rows: Callable[[int], int] = field(default=lambda rows: rows)  # what is computed for so many rows
    probe: Callable[[], object] | None = None  # runs rows that are known to be good; raises if the engine is broken
    close: Callable[[], object] | None = None  # frees what the engine holds; slow
    large: Instance | None = None  # takes its place for large batches
    instead_of: Instance | None = None  # the instance whose place it takes


class Share(NamedTuple):
    """The most rows for an instance, and whether to run them on the event loop."""

    instance: Instance
    rows: int
    inline: bool


@dataclass(frozen=True)
class GroupLimits:
    """From when on a way of computing pays; measured at load, or read from a profile.

    The defaults are those of a model that only has narrow instances, and of one image that takes long.
    """

    inline_rows: int = 0  # up to so many rows are computed on the event loop
    min_share_rows: int = 1  # a request is shared out in pieces of at least so many rows
    wide_rows: int = 0  # up to so many rows of a lone caller are computed on the wide instance


class InstanceGroups:
    """The instances of a model and which of them are taken; used on the event loop only.

    Args:
        narrow: instances that are used side by side; at least one.
        wide: an instance for few rows that uses all cores.
        limits: who gets what.
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
        """So many like instances around one callable."""
        return cls([Instance("narrow", run, max_rows=max_rows) for _ in range(concurrency)])

    @property
    def instances(self) -> list[Instance]:
        """All of them."""
        large = (instance.large for instance in self._narrow)
        return [*self._narrow, *(instance for instance in (self._wide, *large) if instance is not None)]

    @property
    def concurrency(self) -> int:
        """How many batches are computed at once at most."""
        return len(self._narrow)

    @property
    def full_rows(self) -> int:
        """So many rows are worth no further wait."""
        return (self._narrow[0].large or self._narrow[0]).max_rows

    @property
    def free(self) -> bool:
        """Whether any instance is."""
        return not self._wide_taken and bool(self._free)

    def add_large(self, instances: Sequence[Instance], min_rows: int) -> None:
        """From now on, computes batches of `min_rows` rows or more on these, one beside each narrow instance."""
        self._large_rows = min_rows
        for narrow, large in zip(self._narrow, instances, strict=True):
            narrow.large, large.instead_of = large, narrow

    def close(self) -> None:
        """Frees what the engines hold; slow, and nothing may run any more."""
        close_instances(self.instances)

    def inline_instance(self, rows: int) -> Instance | None:
        """The instance that computes `rows` sooner than a thread would take them over; None if there is none now."""
        return self._free[-1] if rows <= self.limits.inline_rows and self.free else None

    def take(self, rows: int, *, lone: bool = False) -> list[Share]:
        """Instances for (some of) so many waiting rows, rows >= 1; they are taken until `give_back`. Empty: none now.

        Args:
            rows: that wait.
            lone: they are all there is, and nobody else is expected: nobody needs the other cores, or the event loop.
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
        """How many batches are computed at once where this instance is used."""
        return 1 if instance is self._wide else len(self._narrow)

    def give_back(self, instance: Instance) -> None:
        """Frees an instance that was taken."""
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
    """The instances of a model, and what their engines are."""

    groups: InstanceGroups
    backend: str  # "onnx" or "torchscript"
    device: str  # "cpu", "cuda:0", "cuda:0,1"
    precision: str  # of what computes most rows


def close_instances(instances: Sequence[Instance]) -> None:
    """Frees the engines of some instances, also if somebody keeps the instances; safe to call twice."""
    for instance in instances:
        if instance.close is not None:
            instance.close()
        instance.run, instance.probe, instance.close = _closed, None, None


def _closed(_: object, __: object) -> Outputs:
    raise RuntimeError("the engine is closed")

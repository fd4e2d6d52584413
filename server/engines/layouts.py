"""Layouts of CPU engines (how many, with how many threads) and batch sizes. Pure functions."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ganserve.wording import counted
from server.config import Backend, Precision

MAX_NARROW_INSTANCES: Final = 8  # with more cores, each engine gets more threads, so that batches stay few and large

Times = Mapping[int, float]  # seconds per batch, by the rows of the batch, ascending


@dataclass(frozen=True)
class Layout:
    """A number of engines that run in parallel, each with its own threads."""

    backend: Backend
    precision: Precision
    engines: int
    threads: int  # per engine

    def __str__(self) -> str:
        precision = "" if self.precision == "fp32" else f"{self.precision} "
        return f"{counted(self.engines, f'{precision}engine')} x {counted(self.threads, 'thread')}"


def automatic_layout(cores: int, engines: int | None = None) -> Layout:
    """The layout for `engines` engines; by default one thread per engine, or more on more than 8 cores."""
    engines = engines or cores // math.ceil(cores / MAX_NARROW_INSTANCES)
    return Layout("onnx", "fp32", engines, max(1, cores // engines))


def seconds_for(times: Times, rows: int) -> float:
    """Estimates the time of a batch: linear between measured sizes, proportional to the rows above the largest."""
    sizes = list(times)
    index = bisect_left(sizes, rows)
    if index == len(sizes):
        return times[sizes[-1]] * rows / sizes[-1]
    if index == 0 or sizes[index] == rows:
        return times[sizes[index]]
    low, high = sizes[index - 1], sizes[index]
    return times[low] + (times[high] - times[low]) * (rows - low) / (high - low)


def rows_within(times: Times, seconds: float) -> int:
    """The largest batch that takes at most `seconds`; 0 if a single row takes longer."""
    fitting = 0
    for rows in range(1, max(times) + 1):
        if seconds_for(times, rows) > seconds:
            break
        fitting = rows
    return fitting


def batch_sizes(max_rows: int) -> tuple[int, ...]:
    """The powers of two below `max_rows`, and `max_rows`: less than half of a padded batch is padding.

    Raises:
        ValueError: max_rows < 1.
    """
    if max_rows < 1:
        raise ValueError(f"max_rows = {max_rows}: a batch has at least 1 row")
    return (*(1 << exponent for exponent in range((max_rows - 1).bit_length())), max_rows)


def padded_rows(rows: int, sizes: Sequence[int]) -> int:
    """The smallest of `sizes`, in ascending order, that holds `rows` rows.

    Raises:
        ValueError: rows is below 1 or above the largest size.
    """
    index = bisect_left(sizes, rows)
    if rows < 1 or index == len(sizes):
        raise ValueError(f"a batch of {rows} rows: this engine computes 1 to {sizes[-1]}")
    return sizes[index]

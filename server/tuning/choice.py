"""Chooses engines, batch size and precision for a model from measurements. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from server.config import Precision
from server.engines.bf16 import LARGE_ROWS, bf16_layout
from server.engines.layouts import MAX_NARROW_INSTANCES, Layout, Times, automatic_layout
from server.engines.loading import HAND_OFF_S, MIN_GAIN
from server.tuning.measure import Measured

TOLERANCE: Final = 0.03  # share of the throughput given up for a shorter latency


class Choice(NamedTuple):
    """The settings chosen for a model, and the reason."""

    layout: Layout  # in float32
    max_batch_rows: int
    precision: Precision  # of large batches: "fp32" or "bf16"
    why: str


def cpu_layouts(cores: int) -> list[Layout]:
    """The float32 layouts that are worth measuring, the most informative first."""
    divisors = [engines for engines in range(2, min(cores, MAX_NARROW_INSTANCES) + 1) if cores % engines == 0]
    counts = [automatic_layout(cores).engines, 1, *reversed(divisors)]
    return list(dict.fromkeys(automatic_layout(cores, engines) for engines in counts))


def choose(table: Sequence[Measured], max_rows: int, cut_short: AbstractSet[Layout] = frozenset()) -> Choice:
    """Chooses the settings for a model.

    Takes the layout with the fewest engines whose throughput is within `TOLERANCE` of the best, and its smallest batch
    size within `TOLERANCE` of its best: both shorten the latency. Takes bfloat16 if the same layout in bfloat16 has
    `MIN_GAIN` times the throughput.

    Args:
        table: measurements; at least one in float32.
        max_rows: largest batch, where the measurements set no limit.
        cut_short: layouts whose largest batches were not measured for lack of time. Layouts are compared at the batch
            sizes that were measured for all of them.

    Raises:
        ValueError: the table holds no measurement in float32.
    """
    times = _by_layout(table)
    rivals = [layout for layout in times if layout.precision == "fp32"]
    if not rivals:
        raise ValueError("the table holds no measurement in fp32")
    best = _best_rates(times, rivals)
    layout = min(
        (layout for layout in rivals if best[layout] >= (1 - TOLERANCE) * max(best.values())),
        key=lambda layout: layout.engines,
    )

    def batch_rows(layout: Layout) -> int:
        rows = _sufficient_rows(times[layout], layout.engines)
        return max_rows if layout in cut_short and rows == max(times[layout]) else rows

    rows = batch_rows(layout)
    precision: Precision = "fp32"
    why = _why(layout, rows, times[layout], best)
    reduced = bf16_layout(layout)
    if reduced in times:
        pair = _best_rates(times, [layout, reduced])
        gain = pair[reduced] / pair[layout]
        why += f"; bf16 changes the throughput by a factor of {gain:.2f}"
        if gain >= MIN_GAIN:
            rows, precision = max(rows, batch_rows(reduced), LARGE_ROWS), "bf16"
    if cut_short:
        why += "; there was no time to measure all batch sizes: raise --seconds"
    return Choice(layout, min(rows, max_rows), precision, why)


def _by_layout(cells: Iterable[Measured]) -> dict[Layout, Times]:
    found: dict[Layout, dict[int, float]] = {}
    for cell in sorted(cells, key=lambda cell: cell.rows):
        found.setdefault(cell.layout, {})[cell.rows] = cell.batch_s
    return dict(found)


def _rate(rows: int, batch_s: float, engines: int) -> float:
    """Images per second of a server, which also hands each batch to a thread."""
    return engines * rows / (batch_s + HAND_OFF_S)


def _best_rates(times: Mapping[Layout, Times], layouts: Sequence[Layout]) -> dict[Layout, float]:
    """The best rate of each layout at the batch sizes that were measured for all of them."""
    common = min(max(times[layout]) for layout in layouts)
    return {
        layout: max(_rate(rows, batch_s, layout.engines) for rows, batch_s in times[layout].items() if rows <= common)
        for layout in layouts
    }


def _sufficient_rows(times: Times, engines: int) -> int:
    rates = {rows: _rate(rows, batch_s, engines) for rows, batch_s in times.items()}
    return next(rows for rows, rate in rates.items() if rate >= (1 - TOLERANCE) * max(rates.values()))


def _why(layout: Layout, max_rows: int, times: Times, best: Mapping[Layout, float]) -> str:
    largest = max(times)
    rows = min(max_rows, largest)
    text = f"{layout}, {layout.engines * rows / times[rows]:,.0f} images/s in batches of {rows}, "
    text += f"because larger ones gain less than {TOLERANCE:.0%}" if rows < largest else "the largest measured"
    others = {other: rate for other, rate in best.items() if other != layout}
    if others:
        rival = max(others, key=lambda other: others[other])
        ratio = best[layout] / others[rival]
        text += f"; with the hand-off of each batch to a thread, {ratio:.2f} times the throughput of {rival}"
        text += ", but fewer engines have a shorter latency" if ratio < 1 else ""
    return text

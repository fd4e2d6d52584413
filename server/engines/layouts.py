"""Which engines suit a model, from a table of measurements: pure functions. Runs nothing, reads no clock and no file.

The rules are those of instances.py: narrow instances side by side, a wide one for a lone caller's few rows, and beside
each narrow instance one of reduced precision for large batches.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from server.engines.profile import Layout, Limits, Measured

MAX_NARROW_INSTANCES: Final = 8  # on more cores each gets more threads, so that batches stay few and large
HAND_OFF_S: Final = 0.0002  # what it takes to give a batch to a thread and get it back, and then some
MIN_SHARE_S: Final = 0.0005  # less work is not worth a thread of its own
MIN_GAIN: Final = 1.1  # that a wide instance, or one of reduced precision, must bring
TOLERANCE: Final = 0.03  # images a second that are given up for sooner answers

Times = Mapping[int, float]  # seconds a batch, by its rows, ascending
_NOTHING: Final[Mapping[Layout, int]] = MappingProxyType({})


class Choice(NamedTuple):
    """What suits a model, and why."""

    layout: Layout  # of what computes in fp32
    limits: Limits
    why: str


def automatic_layout(cores: int, engines: int | None = None) -> Layout:
    """Without a profile: one thread an engine, on many cores more, so that few of them are left idle."""
    engines = engines or cores // math.ceil(cores / MAX_NARROW_INSTANCES)
    return Layout("onnx", "fp32", engines, max(1, cores // engines))


def cpu_layouts(cores: int) -> list[Layout]:
    """What is worth measuring in fp32, the most telling first."""
    divisors = [engines for engines in range(2, min(cores, MAX_NARROW_INSTANCES) + 1) if cores % engines == 0]
    one = Layout("onnx", "fp32", 1, cores)
    rest = [Layout("onnx", "fp32", engines, cores // engines) for engines in reversed(divisors)]
    return list(dict.fromkeys([automatic_layout(cores), one, *rest]))


def bf16_layout(layout: Layout) -> Layout:
    """The engines of bf16 beside those of a layout: as many, of as many threads, as each takes the place of one."""
    return Layout("torchscript", "bf16", layout.engines, layout.threads)


def bf16_layouts(table: Sequence[Measured], cores: int, left_out: Mapping[Layout, int] = _NOTHING) -> list[Layout]:
    """What is worth measuring in bf16: beside the layout that suits a model in fp32, and beside the automatic one.

    Args:
        table: as of `choose`.
        cores: that may be used.
        left_out: as of `choose`.
    """
    suiting = choose(table, left_out=left_out).layout
    return list(dict.fromkeys(map(bf16_layout, (suiting, automatic_layout(cores)))))


def seconds_for(times: Times, rows: int) -> float:
    """How long a batch takes: between measured sizes on a line, outside of them in proportion to the last."""
    sizes = list(times)
    index = bisect_left(sizes, rows)
    if index == len(sizes):
        return times[sizes[-1]] * rows / sizes[-1]
    if index == 0 or sizes[index] == rows:
        return times[sizes[index]]
    low, high = sizes[index - 1], sizes[index]
    return times[low] + (times[high] - times[low]) * (rows - low) / (high - low)


def rows_within(times: Times, seconds: float) -> int:
    """The most rows whose batch takes no longer; 0 if one row does."""
    fitting = 0
    for rows in range(1, max(times) + 1):
        if seconds_for(times, rows) > seconds:
            break
        fitting = rows
    return fitting


def choose(table: Sequence[Measured], device: str = "cpu", left_out: Mapping[Layout, int] = _NOTHING) -> Choice:
    """What suits a model that was measured so.

    Args:
        table: at least one row in fp32; layouts that are missing are not considered.
        device: that it was measured on.
        left_out: the largest batch of each layout whose larger batches there was no time to measure. That limits no
            batch that is computed, and layouts are compared over the sizes that there was time for with all of them.

    Raises:
        ValueError: nothing was measured in fp32.
    """
    busy = _by_layout(cell for cell in table if cell.callers == cell.layout.engines)
    alone = _by_layout(cell for cell in table if cell.callers == 1)
    rivals = [layout for layout in busy if layout.precision == "fp32" and layout in alone]
    if not rivals:
        raise ValueError("the table holds no measurement in fp32")
    best = _best_rates(busy, rivals, left_out)
    enough = (1 - TOLERANCE) * max(best.values())
    # Of like ones that with the fewest engines: a batch that gets more cores is answered sooner.
    layout = min((layout for layout in rivals if best[layout] >= enough), key=lambda layout: layout.engines)
    max_batch_rows = _largest_batch(layout, busy[layout], left_out)
    inline_rows = min(max_batch_rows, rows_within(alone[layout], HAND_OFF_S)) if device == "cpu" else 0
    min_share_rows = rows_within(alone[layout], MIN_SHARE_S) + 1
    wide = next((times for other, times in alone.items() if other in rivals and other.engines == 1), None)
    wide_rows = _wide_rows(alone[layout], wide, layout.engines, min_share_rows)
    wide_rows = 0 if wide_rows <= inline_rows else min(wide_rows, max_batch_rows)  # what is run inline never gets there
    large_rows = large_batch_rows = None
    reduced = bf16_layout(layout) if bf16_layout(layout) in busy else None
    pair = {} if reduced is None else _best_rates(busy, [layout, reduced], left_out)
    if reduced is not None and pair[reduced] >= MIN_GAIN * pair[layout]:
        most_rows = _largest_batch(reduced, busy[reduced], left_out)
        compared_rows = min(most_rows, _compared_rows(busy, [layout, reduced], left_out))  # no larger one is computed
        # A share of so many rows, all instances being busy; a narrow instance may need several batches for it.
        gains = {
            rows: _seconds_in_batches(busy[layout], rows, max_batch_rows) / taken_s
            for rows, taken_s in busy[reduced].items()
            if rows <= compared_rows
        }
        large_rows = _paying_from(gains)
        large_batch_rows = None if large_rows is None else most_rows
    limits = Limits(
        inline_rows=inline_rows,
        min_share_rows=min_share_rows,
        wide_rows=wide_rows,
        large_rows=large_rows,
        max_batch_rows=max_batch_rows,
        large_batch_rows=large_batch_rows,
    )
    why = _why(layout, limits, busy, best)
    if reduced is not None:
        why += f"; {reduced.precision} is {pair[reduced] / pair[layout]:.2f} times as fast and "
        why += "never pays" if large_rows is None else f"pays in batches of {large_rows} rows and more"
    if left_out:
        why += "; there was no time to measure all batch sizes: raise --seconds"
    return Choice(layout, limits, why)


def _by_layout(cells: Iterable[Measured]) -> dict[Layout, Times]:
    found: dict[Layout, dict[int, float]] = {}
    for cell in sorted(cells, key=lambda cell: cell.rows):
        found.setdefault(cell.layout, {})[cell.rows] = cell.batch_s
    return dict(found)


def _rate(rows: int, batch_s: float, callers: int) -> float:
    """Images a second of a server, which has to hand each batch over as well."""
    return callers * rows / (batch_s + HAND_OFF_S)


def _best(times: Times, callers: int) -> float:
    return max(_rate(rows, batch_s, callers) for rows, batch_s in times.items())


def _compared_rows(busy: Mapping[Layout, Times], layouts: Iterable[Layout], left_out: Mapping[Layout, int]) -> float:
    """The largest batch that there was time for with all of these layouts; infinite if there was for every one."""
    return min((max(busy[layout]) for layout in layouts if layout in left_out), default=math.inf)


def _best_rates(
    busy: Mapping[Layout, Times], layouts: Sequence[Layout], left_out: Mapping[Layout, int]
) -> dict[Layout, float]:
    """The best rate of each, so that they can be compared."""
    most = _compared_rows(busy, layouts, left_out)
    return {
        layout: _best({rows: batch_s for rows, batch_s in busy[layout].items() if rows <= most}, layout.engines)
        for layout in layouts
    }


def _largest_batch(layout: Layout, times: Times, left_out: Mapping[Layout, int]) -> int:
    """The most rows a batch should have; as many as may be if those measured say nothing against it."""
    rows = _sufficient_rows(times, layout.engines)
    return left_out.get(layout, rows) if rows == max(times) else rows


def _sufficient_rows(times: Times, callers: int) -> int:
    """The smallest batch that is about as good as the best: smaller ones are answered sooner."""
    enough = (1 - TOLERANCE) * _best(times, callers)
    return next(rows for rows, batch_s in times.items() if _rate(rows, batch_s, callers) >= enough)


def _pieces(rows: int, min_share_rows: int, engines: int) -> int:
    return max(1, min(engines, rows // min_share_rows))


def _seconds_in_batches(times: Times, rows: int, max_batch_rows: int) -> float:
    """How long rows take one instance, in batches of at most so many rows."""
    full, rest = divmod(rows, max_batch_rows)
    return full * seconds_for(times, max_batch_rows) + (seconds_for(times, rest) if rest else 0.0)


def _wide_rows(narrow: Times, wide: Times | None, engines: int, min_share_rows: int) -> int:
    """Up to how many rows of a lone caller are quicker on all cores than shared out; always fewer than engines."""
    paying = 0
    for rows, wide_s in (wide or {}).items():
        share = math.ceil(rows / _pieces(rows, min_share_rows, engines))
        if rows >= engines or wide_s * MIN_GAIN > seconds_for(narrow, share):
            break
        paying = rows
    return paying


def _paying_from(gains: Mapping[int, float]) -> int | None:
    """The smallest number of rows from which on every measured one gains enough."""
    paying = None
    for rows in sorted(gains, reverse=True):
        if gains[rows] < MIN_GAIN:
            break
        paying = rows
    return paying


def _why(layout: Layout, limits: Limits, busy: Mapping[Layout, Times], best: Mapping[Layout, float]) -> str:
    measured = max(busy[layout])
    rows = min(limits.max_batch_rows, measured)
    text = f"{layout}, {layout.engines * rows / busy[layout][rows]:,.0f} images/s in batches of {rows}, "
    text += f"as larger ones bring less than {TOLERANCE:.0%}" if rows < measured else "the largest measured"
    if limits.max_batch_rows > measured:
        text += f" (up to {limits.max_batch_rows} are computed)"
    others = {other: rate for other, rate in best.items() if other != layout}
    if others:
        rival = max(others, key=lambda other: others[other])
        ratio = best[layout] / others[rival]
        text += f"; with the handing over, {ratio:.2f} times those of {rival}"
        text += ", but fewer engines answer sooner" if ratio < 1 else ""
    if limits.wide_rows:
        rows_text = "row" if limits.wide_rows == 1 else "rows"
        text += f"; up to {limits.wide_rows} {rows_text} of a lone caller on all cores"
    return text


def batch_sizes(max_rows: int) -> tuple[int, ...]:
    """The powers of two below `max_rows`, and `max_rows`: less than half of what is computed is padding.

    Raises:
        ValueError: max_rows < 1.
    """
    if max_rows < 1:
        raise ValueError(f"max_rows = {max_rows}: a batch has at least 1 row")
    return (*(1 << exponent for exponent in range((max_rows - 1).bit_length())), max_rows)


def padded_rows(rows: int, sizes: Sequence[int]) -> int:
    """The smallest of `sizes`, which ascend, that holds so many rows.

    Raises:
        ValueError: none does, or rows < 1.
    """
    index = bisect_left(sizes, rows)
    if rows < 1 or index == len(sizes):
        raise ValueError(f"a batch of {rows} rows: this engine computes 1 to {sizes[-1]}")
    return sizes[index]

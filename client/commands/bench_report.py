"""The report of `ganclient bench`: a table, remarks on it, and JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.bench.loads import ClosedLoad, Load
from client.bench.session import Measurement, Plan
from client.commands.tables import print_table
from ganserve.wording import counted

_HEADER: Final = ("load", "rows", "images/s", "requests/s", "p50 ms", "p90 ms", "p99 ms", "errors")

_NOTHING: Final = "-"
_BUSY_CORES: Final = 0.9
_LATE_MS: Final = 5.0


def show_table(measurements: Sequence[Measurement]) -> None:
    """Prints a table with one line per measurement."""
    lines = [_cells(measurement) for measurement in measurements]
    if not sys.stdout.isatty():
        print_table(_HEADER, lines)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)  # narrow, for terminals of 80 columns
    for name in _HEADER:
        table.add_column(name, justify="left" if name in {"load", "errors"} else "right")
    for cells in lines:
        table.add_row(*map(Text, cells))
    Console(emoji=False).print(table)


def _cells(measurement: Measurement) -> tuple[str, ...]:
    results = measurement.results
    times_ms = (results.p50_ms, results.p90_ms, results.p99_ms)
    return (
        str(measurement.load),
        str(measurement.load.rows),
        _rate(results.images_per_s),
        _rate(results.requests_per_s),
        *(_NOTHING if time_ms is None else f"{time_ms:.2f}" for time_ms in times_ms),
        ", ".join(f"{status} {count}" for status, count in results.errors.items()) or _NOTHING,
    )


def line(measurement: Measurement) -> str:
    """One measurement as a line of text, printed while others run."""
    results = measurement.results
    p50, p99 = ("none" if time is None else f"{time:.2f} ms" for time in (results.p50_ms, results.p99_ms))
    rate = _rate(results.images_per_s)
    return f"{measurement.load}, {rows_of(measurement.load)}: {rate} images/s, p50 {p50}, p99 {p99}"


def rows_of(load: Load) -> str:
    """The size of a request, such as "8 rows per request"."""
    return f"{counted(load.rows, 'row')} per request"


def remarks(measurements: Sequence[Measurement]) -> Iterator[str]:
    """Warnings about measurements that were stopped or that the client itself limited, one line each."""
    partial = [str(measurement.load) for measurement in measurements if not measurement.is_complete]
    if partial:
        yield f"stopped early: {', '.join(partial)}"
    busy = [str(item.load) for item in measurements if item.results.client_cores >= _BUSY_CORES]
    if busy:
        yield f"this client used a whole core, so it may be the bottleneck: {', '.join(busy)}"
    late = [str(item.load) for item in measurements if (item.results.client_late_p99_ms or 0) >= _LATE_MS]
    if late:
        yield f"this client sent requests {_LATE_MS:g} ms late or more, which the latencies include: {', '.join(late)}"


def facts(plan: Plan, address: str, measurements: Sequence[Measurement], *, is_complete: bool) -> dict[str, Any]:
    """Everything measured, for JSON."""
    return {
        "model": plan.served.name,
        "version": plan.served.version,
        "device": plan.served.device,
        "backend": plan.served.backend,
        "address": address,
        "format": plan.image_format,
        "warmup_s": plan.warmup_s,
        "complete": is_complete,
        "measurements": [
            {
                "loop": "closed" if isinstance(measurement.load, ClosedLoad) else "open",
                **asdict(measurement.load),
                "complete": measurement.is_complete,
                **asdict(measurement.results),
            }
            for measurement in measurements
        ],
    }


def _rate(per_s: float) -> str:
    return f"{per_s:.0f}" if per_s >= 100 else f"{per_s:.3g}"

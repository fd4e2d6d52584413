"""The rows of tables, from visits and limits: medians over rounds, and ratios of our server to each rival."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.peers.closed_loop import Cell, Load
from benchmarks.peers.in_process import Limit
from benchmarks.peers.visit import Visit

Row = dict[str, Any]
# (model, "in-process 2x1", rows) -> one per round
Limits = Mapping[tuple[str, str, int], Sequence[Limit]]
_NOTHING = "-"


def median_load(visits: Iterable[Visit], peer: str, cell: Cell, value: Callable[[Load], float]) -> float:
    """The median over the rounds; NaN if the cell was never measured."""
    values = [value(visit.loads[cell]) for visit in visits if visit.peer == peer and cell in visit.loads]
    return statistics.median(values) if values else math.nan


def throughput_table(visits: Sequence[Visit]) -> list[Row]:
    """Images per second: one row per peer, one column per cell."""
    return _table(visits, lambda peer, cell: _number(median_load(visits, peer, cell, lambda load: load.images_per_s)))


def spread_table(visits: Sequence[Visit]) -> list[Row]:
    """The lowest and the highest round, as shares of the median."""

    def text(peer: str, cell: Cell) -> str:
        values = [visit.loads[cell].images_per_s for visit in visits if visit.peer == peer and cell in visit.loads]
        if not values:
            return _NOTHING
        median = statistics.median(values)
        return f"{min(values) / median:.2f}-{max(values) / median:.2f}"

    return _table(visits, text)


def latency_table(visits: Sequence[Visit]) -> list[Row]:
    """Median and 99th percentile of the latency, in ms."""

    def text(peer: str, cell: Cell) -> str:
        p50 = median_load(visits, peer, cell, lambda load: load.p50_ms)
        p99 = median_load(visits, peer, cell, lambda load: load.p99_ms)
        return _NOTHING if math.isnan(p50) else f"{_number(p50)} / {_number(p99)}"

    return _table(visits, text)


def cores_table(visits: Sequence[Visit]) -> list[Row]:
    """Cores used by the server, the client, and other programs."""

    def text(peer: str, cell: Cell) -> str:
        used = [
            median_load(visits, peer, cell, value)
            for value in (lambda load: load.server_cores, lambda load: load.client_cores, lambda load: load.other_cores)
        ]
        return _NOTHING if math.isnan(used[0]) else " / ".join(f"{cores:.2f}" for cores in used)

    return _table(visits, text)


def ratio_table(visits: Sequence[Visit], ours: str) -> list[Row]:
    """Images per second of `ours` relative to each other peer; above 1, ours is faster."""

    def text(peer: str, cell: Cell) -> str:
        mine, theirs = (median_load(visits, name, cell, lambda load: load.images_per_s) for name in (ours, peer))
        return _NOTHING if math.isnan(mine) or math.isnan(theirs) else f"{mine / theirs:.2f}"

    return [row for row in _table(visits, text) if row["peer"] != ours]


def start_table(visits: Sequence[Visit]) -> list[Row]:
    """Cold start, memory and processes of each peer."""

    def median(peer: str, value: Callable[[Visit], float]) -> float:
        return statistics.median(value(visit) for visit in visits if visit.peer == peer)

    return [
        {
            "peer": peer,
            "cold start s": f"{median(peer, lambda visit: visit.cold_start_s):.2f}",
            "RSS MiB idle": round(median(peer, lambda visit: visit.idle.rss_mib)),
            "RSS MiB loaded": round(median(peer, lambda visit: visit.loaded.rss_mib)),
            "PSS MiB idle": round(median(peer, lambda visit: visit.idle.pss_mib)),
            "PSS MiB loaded": round(median(peer, lambda visit: visit.loaded.pss_mib)),
            "processes": round(median(peer, lambda visit: visit.processes)),
            "error": f"{median(peer, lambda visit: visit.difference):.1e}",
        }
        for peer in _peers(visits)
    ]


def open_loop_table(visits: Sequence[Visit]) -> list[Row]:
    """Latency from the due time of a request; `client late` is the part of p99 that may be the client's own delay."""
    rates = dict.fromkeys(stream.rate_per_s for visit in visits for stream in visit.streams)
    rows = []
    for peer in _peers(visits):
        for rate in rates:
            streams = [
                stream
                for visit in visits
                if visit.peer == peer
                for stream in visit.streams
                if stream.rate_per_s == rate
            ]
            if streams:
                rows.append(
                    {
                        "peer": peer,
                        "requests/s": f"{rate:g}",
                        "p50 ms": _number(statistics.median(stream.p50_ms for stream in streams)),
                        "p99 ms": _number(statistics.median(stream.p99_ms for stream in streams)),
                        "client late p99 ms": _number(statistics.median(stream.late_p99_ms for stream in streams)),
                        "failed": sum(stream.failed for stream in streams),
                    }
                )
    return rows


def limits_table(limits: Limits, model: str) -> list[Row]:
    """Images per second of the runtime alone and the median time of a run, one column per batch size."""
    sizes = sorted({rows for name, _, rows in limits if name == model})
    layouts = dict.fromkeys(layout for name, layout, _ in limits if name == model)

    def text(rounds: Sequence[Limit]) -> str:
        if not rounds:
            return _NOTHING
        speed = statistics.median(limit.images_per_s for limit in rounds)
        return f"{_number(speed)} ({_number(statistics.median(limit.run_p50_ms for limit in rounds))} ms)"

    return [
        {"layout": layout} | {f"{rows} rows": text(limits.get((model, layout, rows), ())) for rows in sizes}
        for layout in layouts
    ]


def _table(visits: Sequence[Visit], text: Callable[[str, Cell], str]) -> list[Row]:
    cells = dict.fromkeys(cell for visit in visits for cell in visit.loads)
    return [{"peer": peer} | {str(cell): text(peer, cell) for cell in cells} for peer in _peers(visits)]


def _peers(visits: Sequence[Visit]) -> list[str]:
    return list(dict.fromkeys(visit.peer for visit in visits))


def _number(value: float) -> str:
    if math.isnan(value):
        return _NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

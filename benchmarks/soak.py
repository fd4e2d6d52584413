"""A long steady load: does the server's memory grow, or its throughput fall?

    python -m benchmarks.soak [--minutes 20] [--load 0.8]

Measures the capacity, then sends a share of it in an open loop (Poisson), window by window. The slope of the memory is
that of a least-squares line through the windows after the first quarter, in which caches and arenas fill.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.overload import Sender, generate_request, resident_mib
from benchmarks.report import report
from benchmarks.serving import publish_untrained, server_process
from client.bench.loads import ClosedLoad, OpenLoad

_CALLERS = 8
_WARMUP_S = 2.0
_CAPACITY_S = 10.0
_DEADLINE_S = 10.0


async def soak(address: str, pid: int, body: bytes, rows: int, share: float, windows: int, window_s: float) -> Any:
    """Returns the capacity in images per second, and one table row per window."""
    sender = Sender(address, body, _DEADLINE_S)
    try:
        capacity = (await sender.measure(ClosedLoad(rows, _CALLERS), _CAPACITY_S, _WARMUP_S)).images_per_s
        table: list[dict[str, Any]] = []
        for number in range(1, windows + 1):
            results = await sender.measure(OpenLoad(rows, share * capacity / rows, "poisson"), window_s, 0.0)
            table.append(
                {
                    "window": number,
                    "images/s": results.images_per_s,
                    "p99 ms": results.p99_ms or math.nan,
                    "answered": results.answered,
                    "not answered": sum(results.errors.values()),
                    "server MiB": resident_mib(pid),
                }
            )
            click.echo("  ".join(f"{key} {value:,.1f}" for key, value in table[-1].items()))
        return capacity, table
    finally:
        await sender.close()


@click.command()
@click.option("--minutes", type=float, default=20.0, show_default=True)
@click.option("--window", "window_s", type=float, default=30.0, show_default=True, help="Seconds per window.")
@click.option("--load", "share", type=float, default=0.8, show_default=True, help="Share of the capacity.")
@click.option("--model", default="dcgan", show_default=True)
@click.option("--preset", default="dcgan64-k4", show_default=True)
@click.option("--rows", type=click.IntRange(1, 1024), default=4, show_default=True, help="Rows per request.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(minutes: float, window_s: float, share: float, model: str, preset: str, rows: int, out: Path | None) -> None:
    """Measures memory and throughput under a long load."""
    windows = max(4, round(minutes * 60 / window_s))
    with tempfile.TemporaryDirectory() as repository:
        _, card = publish_untrained(Path(repository), model, preset)
        body = generate_request(model, card, rows).SerializeToString()
        with server_process(Path(repository)) as (process, address):
            capacity, table = asyncio.run(soak(address, process.pid, body, rows, share, windows, window_s))
    report(f"{preset}, {rows} rows per request, {share:.0%} of {capacity:,.0f} images/s", table, out)
    settled = table[windows // 4 :]
    hours = np.arange(len(settled)) * window_s / 3600
    slope = float(np.polyfit(hours, [row["server MiB"] for row in settled], 1)[0])
    first, last = (
        np.mean([row["images/s"] for row in rows_of]) for rows_of in (settled[: windows // 4], settled[-windows // 4 :])
    )
    growth_mib = settled[-1]["server MiB"] - settled[0]["server MiB"]
    lost = sum(row["not answered"] for row in table)
    click.echo(
        f"memory: {slope:+.1f} MiB per hour ({growth_mib:+.1f} MiB from the first settled window to the last);"
        f" throughput: {last / first - 1:+.1%}; requests without an answer: {lost}"
    )


if __name__ == "__main__":
    main()

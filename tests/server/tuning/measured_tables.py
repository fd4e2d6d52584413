"""Made-up tables of measurements, for tests of the choice."""

from __future__ import annotations

from collections.abc import Callable

from server.engines.layouts import Layout, batch_sizes
from server.tuning.measure import Measured

BatchSeconds = Callable[[Layout, int], float]  # of a layout, per batch of some rows


def table_of(layouts: list[Layout], seconds: BatchSeconds, max_rows: int = 64) -> list[Measured]:
    """The table for batches that take this long."""
    return [
        Measured(layout, rows, layout.engines * rows / seconds(layout, rows))
        for layout in layouts
        for rows in batch_sizes(max_rows)
    ]


def amdahl(row_s: float, *, serial: float = 0.0, batch_s: float = 0.0, bf16: float = 1.0) -> BatchSeconds:
    """Batches with a share of work that cannot run in parallel.

    Args:
        row_s: per row, on one core.
        serial: this share of the work per row.
        batch_s: per batch, whatever its rows.
        bf16: time per row in bf16, relative to fp32.
    """

    def seconds(layout: Layout, rows: int) -> float:
        work_s = rows * row_s * (bf16 if layout.precision == "bf16" else 1.0)
        return batch_s + work_s * (serial + (1 - serial) / layout.threads)

    return seconds

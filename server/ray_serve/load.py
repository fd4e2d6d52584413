"""Measures the load of a replica between two reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from server.models.catalog import Catalog

ROWS_WAITING: Final = "rows_waiting"
"""The name of the rows in the queues of a replica."""

BUSY: Final = "busy"
"""The name of the share of the engines' time that they spent computing, from 0 to 1."""


class Load:
    """Rows that wait, and how busy the engines have been since the last report.

    Args:
        catalog: the served models.
        cores: that the engines use together.
        clock: returns seconds.
    """

    def __init__(self, catalog: Catalog, cores: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog = catalog
        self._cores = cores
        self._clock = clock
        self._reported_at_s = clock()
        self._busy_core_s: dict[int, float] = {}

    def report(self) -> dict[str, float]:
        """Returns the load for `server.ray_serve.rows_policy.RowsPolicy`."""
        now_s = self._clock()
        models = self._catalog.versions()
        totals = {id(model): sum(model.statistics.busy_core_s.values()) for model in models}
        worked_s = sum(total - self._busy_core_s.get(key, 0.0) for key, total in totals.items())
        elapsed_s = now_s - self._reported_at_s
        self._reported_at_s, self._busy_core_s = now_s, totals
        busy = worked_s / (elapsed_s * self._cores) if elapsed_s > 0 else 0.0
        return {ROWS_WAITING: float(sum(model.batcher.queued_rows for model in models)), BUSY: min(1.0, busy)}

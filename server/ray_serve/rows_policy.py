"""Autoscaling on rows. Ray's own policy counts requests, but one request has 1 row and another 1024."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from server.ray_serve.load import BUSY, ROWS_WAITING


class RowsPolicy:
    """Decides how many replicas Ray runs, from what they report; name it as `policy_function` in serve_config.yaml.

    The queues tell when there are too few replicas. They do not tell when there are too many, because they are empty
    then; that follows from the time that the engines spend computing.

    Args:
        target_rows_waiting: of one replica, on average; more replicas are started above it.
        target_busy: a replica is stopped if the others are not busier than this without it, as a share of their time.
    """

    def __init__(self, target_rows_waiting: float = 64.0, target_busy: float = 0.7) -> None:
        self._target_rows_waiting = target_rows_waiting
        self._target_busy = target_busy

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Returns the number of replicas, and no state. Ray bounds the number, and applies its delays.

        Args:
            context: a `ray.serve.config.AutoscalingContext`.
        """
        reported: Mapping[str, Mapping[Any, float]] = context.aggregated_metrics or {}
        waiting, busy = reported.get(ROWS_WAITING, {}), reported.get(BUSY, {})
        replicas = len(waiting)
        if not replicas:  # none has reported yet
            return context.target_num_replicas, {}
        by_queue = math.ceil(sum(waiting.values()) / self._target_rows_waiting)
        by_time = math.ceil(sum(busy.values()) / self._target_busy)
        return max(by_queue, min(replicas, by_time), 1), {}

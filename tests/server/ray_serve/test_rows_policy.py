"""Tests for server.ray_serve.rows_policy."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from server.ray_serve.load import BUSY, ROWS_WAITING
from server.ray_serve.rows_policy import RowsPolicy


def context(*replicas: tuple[float, float]) -> SimpleNamespace:
    """What Ray tells of replicas with these rows waiting and busy shares."""
    return SimpleNamespace(
        target_num_replicas=3,
        aggregated_metrics={
            ROWS_WAITING: {f"replica {index}": waiting for index, (waiting, _) in enumerate(replicas)},
            BUSY: {f"replica {index}": busy for index, (_, busy) in enumerate(replicas)},
        },
    )


@pytest.mark.parametrize(
    ("replicas", "wanted"),
    [
        ([(0, 0.0)], 1),
        ([(100, 1.0)], 1),
        ([(101, 1.0)], 2),
        ([(400, 1.0)], 4),
        ([(0, 1.0), (0, 1.0)], 2),  # busy, but nothing waits
        ([(0, 0.7), (0, 0.7)], 2),
        ([(0, 0.3), (0, 0.3)], 1),
        ([(0, 0.1)] * 8, 2),
        ([(150, 0.1), (150, 0.1)], 3),
    ],
)
def test_queues_start_replicas_and_idle_engines_stop_them(replicas: list[tuple[float, float]], wanted: int) -> None:
    policy = RowsPolicy(target_rows_waiting=100, target_busy=0.7)
    assert policy(context(*replicas)) == (wanted, {})


def test_until_a_replica_reports_nothing_changes() -> None:
    assert RowsPolicy()(SimpleNamespace(target_num_replicas=3, aggregated_metrics=None)) == (3, {})
    assert RowsPolicy()(context()) == (3, {})

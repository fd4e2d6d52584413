from __future__ import annotations

import pytest

from ganserve.metrics import CYCLE_METRICS, GAN_METRICS, METRICS, Metric


@pytest.mark.parametrize(
    ("better", "text"),
    [
        ("smaller", "X: a distance, smaller is better"),
        ("larger", "X: a distance, larger is better"),
        ("as real images", "X: a distance, best when equal to that of real images"),
    ],
)
def test_a_metric_says_how_to_read_it(better: str, text: str) -> None:
    assert str(Metric("X", better, "a distance")) == text  # type: ignore[arg-type]


@pytest.mark.parametrize("metrics", [GAN_METRICS, CYCLE_METRICS])
def test_labels_are_distinct_so_that_a_table_can_be_read(metrics: dict[str, Metric]) -> None:
    labels = [metric.label for metric in metrics.values()]
    assert len(set(labels)) == len(labels)


def test_the_metric_that_chooses_the_best_checkpoint_can_be_compared() -> None:
    for metrics in (GAN_METRICS, CYCLE_METRICS):
        assert next(iter(metrics.values())).better in ("smaller", "larger")


def test_all_metrics_include_those_of_both_tasks() -> None:
    assert METRICS.keys() > GAN_METRICS.keys() | CYCLE_METRICS.keys()

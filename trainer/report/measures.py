"""How a report shows the metrics of an evaluation; what each is stands in ganserve/metrics.py."""

from __future__ import annotations

from typing import Final

from ganserve.metrics import METRICS

_DECIMALS: Final = {
    "sliced_wasserstein_distance": 2,
    "sliced_wasserstein_distance_mmgeneration": 2,
    "frechet_distance": 3,
    "inception_fid": 2,
    "inception_kid": 5,
}
_BASELINE: Final = "_unchanged"  # of doing nothing: depends on the data alone, so no run is the best at it


def label_of(name: str) -> str:
    """Short, for tables and axes."""
    metric = METRICS.get(name)
    return name if metric is None else metric.label


def heading_of(name: str) -> str:
    """The label, and which way is better."""
    metric = METRICS.get(name)
    if metric is None or name.endswith(_BASELINE):
        return label_of(name)
    better = "as among real images" if metric.better == "as real images" else f"{metric.better} is better"
    return f"{metric.label} ({better})"


def explanation_of(name: str) -> str:
    """One sentence about a metric, with its source."""
    metric = METRICS.get(name)
    if metric is None:
        return ""
    return f"{metric.label}: {metric.explanation}{f' ({metric.source})' if metric.source else ''}."


def shown_metric(name: str, value: float) -> str:
    """A value for people."""
    return f"{value:.{_DECIMALS.get(name, 4)}f}"


def has_best(name: str) -> bool:
    """Whether one way is better, so that one of several values can be the best."""
    metric = METRICS.get(name)
    return metric is not None and metric.better in ("smaller", "larger") and not name.endswith(_BASELINE)


def is_better(name: str, value: float, other: float) -> bool:
    """Whether `value` is the better one of two; never, if no way is better."""
    metric = METRICS.get(name)
    if metric is None or not has_best(name):
        return False
    return value < other if metric.better == "smaller" else value > other

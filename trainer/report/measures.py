"""How a report shows the figures of an evaluation; what each is stands in ganserve/figures.py."""

from __future__ import annotations

from typing import Final

from ganserve.metrics import FIGURES

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
    figure = FIGURES.get(name)
    return name if figure is None else figure.label


def heading_of(name: str) -> str:
    """The label, and which way is better."""
    figure = FIGURES.get(name)
    if figure is None or name.endswith(_BASELINE):
        return label_of(name)
    better = "as among real images" if figure.better == "as real images" else f"{figure.better} is better"
    return f"{figure.label} ({better})"


def explanation_of(name: str) -> str:
    """One sentence about a figure, with its source."""
    figure = FIGURES.get(name)
    if figure is None:
        return ""
    return f"{figure.label}: {figure.explanation}{f' ({figure.source})' if figure.source else ''}."


def shown_figure(name: str, value: float) -> str:
    """A value for people."""
    return f"{value:.{_DECIMALS.get(name, 4)}f}"


def has_best(name: str) -> bool:
    """Whether one way is better, so that one of several values can be the best."""
    figure = FIGURES.get(name)
    return figure is not None and figure.better in ("smaller", "larger") and not name.endswith(_BASELINE)


def is_better(name: str, value: float, other: float) -> bool:
    """Whether `value` is the better one of two; never, if no way is better."""
    figure = FIGURES.get(name)
    if figure is None or not has_best(name):
        return False
    return value < other if figure.better == "smaller" else value > other

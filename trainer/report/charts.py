"""Charts as SVG, which reads well on light and dark pages alike. Knows numbers and names only."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainer.report.record import Curve

BINS = 240  # points of a curve at most: more cannot be seen, and make pages heavy
SMOOTHING_SHARE = 25  # a running mean over one part in so many of the points
_INK = "#7d7d7d"  # is legible on white and on near-black
# After Okabe and Ito's palette for colour-blind readers, in tones that are seen on light and dark.
COLOURS = ("#2f8fd8", "#e0702a", "#12a67c", "#c670a0", "#d99a00", "#5c6fd6")
_DASHES = ("-", "--", ":", "-.")
_MAX_LINES = 24  # more cannot be told apart

Series = Mapping[str, Sequence[Curve]]  # by the name in the legend; one curve a seed


def curves_svg(series: Series, *, y_label: str, x_label: str = "steps") -> bytes:
    """Noisy measurements a step: one colour a name; its seeds as thin lines, and their running mean as a thick one."""
    figure, axes = _new()
    for index, (name, curves) in enumerate(list(series.items())[:_MAX_LINES]):
        colour, dash = _style(index)
        thinned = [_thinned(curve) for curve in curves if len(curve.steps)]
        if not thinned:
            continue
        for steps, values in thinned:
            axes.plot(steps, values, color=colour, alpha=0.28, linewidth=0.8)
        for number, (steps, values) in enumerate(thinned):
            smooth = _running_mean(values)
            label = _plain(name) if number == 0 else None
            axes.plot(steps[-len(smooth) :], smooth, dash, color=colour, linewidth=1.5, label=label)
    return _svg(figure, axes, x_label, y_label)


def metric_svg(series: Series, *, y_label: str, x_label: str = "steps") -> bytes:
    """A figure over the steps at which it was evaluated: one line a name, the mean of its seeds, and their range."""
    figure, axes = _new()
    for index, (name, curves) in enumerate(list(series.items())[:_MAX_LINES]):
        colour, dash = _style(index)
        by_step: dict[float, list[float]] = {}
        for curve in curves:
            for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
                by_step.setdefault(step, []).append(value)
        if not by_step:
            continue
        steps = sorted(by_step)
        marker = "o" if len(steps) <= 40 else ""
        means = [float(np.mean(by_step[step])) for step in steps]
        axes.plot(steps, means, dash, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=_plain(name))
        if any(len(values) > 1 for values in by_step.values()):
            low, high = [min(by_step[step]) for step in steps], [max(by_step[step]) for step in steps]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    return _svg(figure, axes, x_label, y_label)


def _style(index: int) -> tuple[str, str]:
    return COLOURS[index % len(COLOURS)], _DASHES[index // len(COLOURS) % len(_DASHES)]


def _new() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, axes: Axes, x_label: str, y_label: str) -> bytes:
    axes.set_xlabel(x_label)
    axes.set_ylabel(_plain(y_label))
    axes.grid(color=_INK, alpha=0.25, linewidth=0.6)
    axes.patch.set_alpha(0)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_color(_INK)
    axes.tick_params(colors=_INK)
    for spine in axes.spines.values():
        spine.set_color(_INK)
        spine.set_alpha(0.5)
    if axes.get_legend_handles_labels()[0]:
        legend = axes.legend(frameon=False, fontsize=8)
        for text in legend.get_texts():
            text.set_color(_INK)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ganserve"}):  # the same numbers give the same file
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _thinned(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most BINS points: the means of equal runs of steps."""
    count = len(curve.steps)
    if count <= BINS:
        return curve.steps, curve.values
    edges = np.linspace(0, count, BINS + 1).astype(int)[:-1]
    sizes = np.diff(np.append(edges, count))
    return np.add.reduceat(curve.steps, edges) / sizes, np.add.reduceat(curve.values, edges) / sizes


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    window = max(1, len(values) // SMOOTHING_SHARE)
    return np.convolve(values, np.ones(window) / window, mode="valid")


def _plain(text: str) -> str:
    """Text for matplotlib, which would read dollars as mathematics and a leading underscore as hidden."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:60])
    return shown.replace("\\", "/").replace("$", r"\$").lstrip("_") or "-"

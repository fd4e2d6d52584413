"""Charts of claims, as SVG that reads well on light and dark pages alike."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.claims.statistics import Effect, Floats
from trainer.report.charts import COLOURS

_INK = "#7d7d7d"  # is legible on white and on near-black


def effect_svg(effect: Effect) -> bytes:
    """One dot a seed, one row a group, and a bar at each mean; values that are not finite are left out."""
    figure = Figure(figsize=(6.4, 1.1 + 0.42 * len(effect.groups)), layout="constrained")
    axes = figure.subplots()
    for row, (_, values) in enumerate(effect.groups):
        finite = [value for value in values if np.isfinite(value)]
        colour = COLOURS[row % len(COLOURS)]
        axes.plot(finite, [row] * len(finite), "o", color=colour, alpha=0.75, markersize=6)
        if len(finite) == len(values):
            axes.plot([np.mean(values)], [row], "|", color=colour, markersize=18, markeredgewidth=2)
    if effect.reference or len(effect.groups) == 1:
        axes.axvline(effect.reference, color=_INK, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(effect.groups)), [fill(label, 26) for label, _ in effect.groups])
    axes.set_ylim(len(effect.groups) - 0.5, -0.5)
    axes.set_title(fill(effect.name, 74), fontsize=9, color=_INK)
    return _svg(figure, [axes])


def maps_svg(maps: Mapping[str, Floats]) -> bytes:
    """Where images change, side by side on one scale from 0."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, len(maps))))
    highest = max(float(each.max()) for each in maps.values())
    for each, (title, change) in zip(axes, maps.items(), strict=True):
        shown = each.imshow(change, vmin=0, vmax=highest or 1.0, cmap="viridis", interpolation="nearest")
        each.set_title(title, fontsize=9, color=_INK)
        each.set_xticks([])
        each.set_yticks([])
    bar = figure.colorbar(shown, ax=axes, label="change, share of black to white")
    bar.ax.yaxis.label.set_color(_INK)
    bar.ax.tick_params(colors=_INK)
    return _svg(figure, axes, grid=False)


def sorted_svg(series: Mapping[str, Sequence[float] | Floats], x_label: str, y_label: str) -> bytes:
    """Values from the largest to the smallest, one line a name."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.subplots()
    for index, (name, values) in enumerate(series.items()):
        axes.plot(np.sort(np.asarray(values))[::-1], color=COLOURS[index % len(COLOURS)], label=name)
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel(y_label, color=_INK)
    axes.legend(frameon=False, fontsize=8, labelcolor=_INK)
    return _svg(figure, [axes])


def _svg(figure: Figure, all_axes: Sequence[Axes], *, grid: bool = True) -> bytes:
    for axes in all_axes:
        axes.patch.set_alpha(0)
        axes.tick_params(colors=_INK, labelsize=8)
        if grid:
            axes.grid(axis="x", color=_INK, alpha=0.25, linewidth=0.6)
        for spine in axes.spines.values():
            spine.set_color(_INK)
            spine.set_alpha(0.5)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ganserve"}):  # the same numbers give the same file
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()

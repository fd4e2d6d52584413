"""Every chart of a run, a report, a sweep or a claim, as SVG for pages or PNG for run folders.

All share one style: gray ink on a transparent background, legible on light and dark pages.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # matplotlib takes a second to load, so it loads with the first chart
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS: Final = 240  # per curve: a reader cannot see more, and they make pages heavy
SMOOTHING_SHARE: Final = 25  # the running mean covers 1/25 of the points
INK: Final = "#7d7d7d"  # legible on white and on near-black
# Tones of Okabe and Ito's palette for colour-blind readers, legible on light and dark.
COLOURS: Final = ("#2f8fd8", "#e0702a", "#12a67c", "#c670a0", "#d99a00", "#5c6fd6")
_DASHES: Final = ("-", "--", ":", "-.")
_MAX_LINES: Final = 24  # a reader cannot tell more apart

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One measurement over the steps at which it was taken; both arrays are (points,)."""

    steps: Floats
    values: Floats


Series = Mapping[str, Sequence[Curve]]  # by the name in the legend; one curve per seed


@dataclass(frozen=True)
class StepChart:
    """A chart of values that every step logs."""

    title: str
    y_label: str
    keys: Mapping[str, str]  # name in the legend -> key in metrics.jsonl


LOSSES: Final = StepChart(
    "Generator and discriminator loss", "loss", {"Generator": "g_loss", "Discriminator": "d_loss"}
)
LOSS_PARTS: Final = StepChart(
    "Parts of the generators' loss",
    "loss, mean of both directions",
    {"adversarial": "adversarial_loss", "cycle": "cycle_loss", "identity": "identity_loss"},
)
ACCURACY: Final = StepChart("Images that the discriminator tells apart", "share of images", {"accuracy": "d_accuracy"})


def confidence(*, probabilities: bool) -> StepChart:
    """D(x) and D(G(z)): probabilities of a GAN's discriminator, or raw scores of a critic."""
    y_label = "probability of being real" if probabilities else "critic score"
    keys = {"D(x), real images": "d_real", "D(G(z)), fakes": "d_fake"}
    return StepChart("Confidence of the discriminator", y_label, keys)


def step_chart(series: Series, *, y_label: str, title: str = "", size: tuple[float, float] = (6.4, 3.6)) -> Figure:
    """Noisy values per step: one colour per name, a thin line per seed, and its running mean as a thick line."""
    figure, axes = new_chart(*size, x_label="steps", y_label=y_label)
    axes.set_title(plain(title) if title else "")
    for index, (name, curves) in enumerate(list(series.items())[:_MAX_LINES]):
        colour, dash = _line(index)
        for number, (steps, values) in enumerate(thinned(curve) for curve in curves if len(curve.steps)):
            axes.plot(steps, values, color=colour, alpha=0.28, linewidth=0.8)
            smooth = _running_mean(values)
            label = plain(name) if number == 0 else None
            axes.plot(steps[-len(smooth) :], smooth, dash, color=colour, linewidth=1.5, label=label)
    return figure


def metric_chart(series: Series, *, y_label: str, x_label: str = "steps") -> Figure:
    """A metric over the steps of its evaluations: per name, the mean over seeds as a line, their range as a band."""
    figure, axes = new_chart(x_label=x_label, y_label=y_label)
    for index, (name, curves) in enumerate(list(series.items())[:_MAX_LINES]):
        colour, dash = _line(index)
        by_step: dict[float, list[float]] = {}
        for curve in curves:
            for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
                by_step.setdefault(step, []).append(value)
        if not by_step:
            continue
        steps = sorted(by_step)
        marker = "o" if len(steps) <= 40 else ""
        means = [float(np.mean(by_step[step])) for step in steps]
        axes.plot(steps, means, dash, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=plain(name))
        if any(len(values) > 1 for values in by_step.values()):
            low, high = [min(by_step[step]) for step in steps], [max(by_step[step]) for step in steps]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    return figure


def new_chart(width: float = 6.4, height: float = 3.6, *, x_label: str = "", y_label: str = "") -> tuple[Figure, Axes]:
    """An empty chart; sizes are in inches."""
    figure = new_figure(width, height)
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel(plain(y_label) if y_label else "")
    return figure, axes


def new_figure(width: float, height: float) -> Figure:
    """A figure without axes; sizes are in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure, *, grid: Literal["both", "x", ""] = "both") -> bytes:
    """The chart in the common style. The same numbers give the same file."""
    import matplotlib as mpl

    _style(figure, grid)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ganserve"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The chart in the common style, on white, 100 pixels per inch."""
    _style(figure, "both")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def thinned(curve: Curve) -> tuple[Floats, Floats]:
    """At most MAX_POINTS points: means over equal runs of steps."""
    count = len(curve.steps)
    if count <= MAX_POINTS:
        return curve.steps, curve.values
    edges = np.linspace(0, count, MAX_POINTS + 1).astype(int)[:-1]
    sizes = np.diff(np.append(edges, count))
    return np.add.reduceat(curve.steps, edges) / sizes, np.add.reduceat(curve.values, edges) / sizes


def plain(text: str) -> str:
    """Text for matplotlib, which reads dollars as mathematics and hides names with a leading underscore."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:60])
    return shown.replace("\\", "/").replace("$", r"\$").lstrip("_") or "-"


def _style(figure: Figure, grid: Literal["both", "x", ""]) -> None:
    for axes in figure.axes:
        axes.patch.set_alpha(0)
        if grid:
            axes.grid(axis=grid, color=INK, alpha=0.25, linewidth=0.6)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(INK)
        axes.tick_params(colors=INK)
        for spine in axes.spines.values():
            spine.set_color(INK)
            spine.set_alpha(0.5)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def _line(index: int) -> tuple[str, str]:
    """Colour and dash of the n-th line."""
    return COLOURS[index % len(COLOURS)], _DASHES[index // len(COLOURS) % len(_DASHES)]


def _running_mean(values: Floats) -> Floats:
    window = max(1, len(values) // SMOOTHING_SHARE)
    return np.convolve(values, np.ones(window) / window, mode="valid")

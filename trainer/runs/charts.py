"""Every chart of a run, a report, a sweep or a claim, as SVG for pages or PNG for run folders.

All share one style: gray ink on a transparent background, legible on light and dark pages.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # matplotlib takes a second to load, so it loads with the first chart
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from trainer.config import AnyConfig

MAX_POINTS: Final = 240  # per curve: a reader cannot see more, and they make pages heavy
SMOOTHING_SHARE: Final = 25  # the running mean covers 1/25 of the points
INK: Final = "#7d7d7d"  # legible on white and on near-black
# Tones of Okabe and Ito's palette for colour-blind readers, legible on light and dark.
COLOURS: Final = ("#2f8fd8", "#e0702a", "#12a67c", "#c670a0", "#d99a00", "#5c6fd6")
_DASHES: Final = ("-", "--", ":", "-.")
SCORE_DIFFERENCE: Final = "d_real - d_fake"  # key of the difference, which metrics.jsonl does not hold
SHORT_POINTS: Final = 40  # curves of up to this many points have markers, so that even one point is seen
_MAX_LINES: Final = 24  # a reader cannot tell more apart

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One measurement over the steps, images or seconds at which it was taken; all arrays are (points,)."""

    steps: Floats
    values: Floats
    errors: Floats | None = None  # standard errors


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
CRITIC_LOSSES: Final = StepChart("Generator and critic loss", "loss", {"Generator": "g_loss", "Critic": "d_loss"})
LOSS_PARTS: Final = StepChart(
    "Parts of the generators' loss",
    "loss, mean of both directions",
    {"adversarial": "adversarial_loss", "cycle": "cycle_loss", "identity": "identity_loss"},
)
ACCURACY: Final = StepChart("Images that the discriminator tells apart", "share of images", {"accuracy": "d_accuracy"})


def losses(config: AnyConfig) -> StepChart:
    """The losses of both networks."""
    return CRITIC_LOSSES if config.has_critic else LOSSES


def scores(config: AnyConfig) -> StepChart:
    """D(x) and D(G(z)): probabilities, or raw scores; of a critic also their difference."""
    keys = {"D(x), real images": "d_real", "D(G(z)), fakes": "d_fake"}
    if config.scores_are_probabilities:
        return StepChart("Confidence of the discriminator", "probability of being real", keys)
    if config.has_critic:
        # The critic maximises the difference; for a 1-Lipschitz critic it estimates the Wasserstein distance.
        keys |= {"estimate, D(x) - D(G(z))": SCORE_DIFFERENCE}
        return StepChart("Critic score", "critic score", keys)
    return StepChart("Scores of the discriminator", "score, without a sigmoid", keys)


def difference(one: Curve, other: Curve) -> Curve:
    """One curve minus another, at the steps that both have."""
    steps, first, second = np.intersect1d(one.steps, other.steps, return_indices=True)
    return Curve(steps, one.values[first] - other.values[second])


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
            marker = "o" if len(steps) <= SHORT_POINTS else ""
            shown = steps[-len(smooth) :]
            axes.plot(shown, smooth, dash, color=colour, linewidth=1.5, marker=marker, markersize=3, label=label)
    return figure


def metric_chart(
    series: Series, *, y_label: str, x_label: str = "steps", references: Mapping[str, float] = MappingProxyType({})
) -> Figure:
    """A metric over the steps of its evaluations: per name, the mean over seeds as a line, their range as a band.

    A single seed has bars of two standard errors. References are level lines, by name: the metric of real images.
    """
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
        marker = "o" if len(steps) <= SHORT_POINTS else ""
        means = [float(np.mean(by_step[step])) for step in steps]
        axes.plot(steps, means, dash, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=plain(name))
        if any(len(values) > 1 for values in by_step.values()):
            low, high = [min(by_step[step]) for step in steps], [max(by_step[step]) for step in steps]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        elif len(curves) == 1 and (errors := curves[0].errors) is not None:
            [curve] = curves
            axes.errorbar(curve.steps, curve.values, yerr=2 * errors, fmt="none", ecolor=colour, alpha=0.6)
    for name, value in references.items():
        axes.axhline(value, color=INK, linestyle=(0, (5, 3)), linewidth=1.2, label=plain(name))
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

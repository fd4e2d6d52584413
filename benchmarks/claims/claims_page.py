"""The HTML page of the claims: verdicts, effects, the values of every seed, and what others have found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from textwrap import fill

import numpy as np

from benchmarks.claims.evidence import Course, Evidence
from benchmarks.claims.outcomes import LABELS, Outcome
from benchmarks.claims.statistics import Effect, Floats, interval, shown
from benchmarks.claims.subjects import SUBJECTS, Setting
from trainer.report.page import Detail, Page, Picture, Table, TableCell, picture_of_svg
from trainer.runs import charts
from trainer.runs.charts import INK, Curve

_NOTE = (
    "Intervals are 95 % expanded percentile bootstraps over seeds; with three seeds they span all values."
    " A claim is supported if all effects that decide it are on the claimed side of their reference."
)
_OVER_EPOCHS = {"frechet_distance": "Frechet distance", "laplacian_ratio": "Laplacian variance over that of reals"}
_PER_STEP = {"Losses": ("d_loss", "g_loss"), "Scores of D": ("d_real", "d_fake")}
_NAMES = {"d_loss": "D", "g_loss": "G", "d_real": "D(x)", "d_fake": "D(G(z))"}


def claims_page(outcomes: Sequence[Outcome], evidence: Evidence, setting: Setting) -> Page:
    """Builds the page."""
    rows = [
        [TableCell(text) for text in (outcome.claim.id, outcome.claim.sentence, outcome.verdict, outcome.why)]
        for outcome in outcomes
    ]
    return Page(
        title="Claims about GANs",
        label=LABELS[setting.scale],
        lead=["Each claim is tested by training GANs with several seeds and measuring them."],
        tables=[Table("Verdicts", ("claim", "sentence", "verdict", "reason"), rows, _NOTE)],
        details=[_detail(outcome, evidence) for outcome in outcomes],
    )


def _detail(outcome: Outcome, evidence: Evidence) -> Detail:
    claim = outcome.claim
    lines = [
        f"Source: {claim.source}.",
        f"Test: {claim.method}",
        f"Reported elsewhere: {claim.outside}",
        f"Verdict: {outcome.verdict} ({outcome.why}).",
    ]
    pictures: list[Picture] = []
    if outcome.effects:
        pictures += _special(outcome, evidence)
        pictures += [_effect_picture(effect) for effect in outcome.effects]
    headings = ("effect", "measure", "estimate", "95 % interval", "Hedges' g", "claimed", "result", "each seed")
    tables = [Table("Effects", headings, [_row(effect) for effect in outcome.effects])] if outcome.effects else []
    title = f"{claim.id}. {claim.sentence}"
    return Detail(title=title, lines=lines, warnings=outcome.notes, pictures=pictures, tables=tables)


def _row(effect: Effect) -> list[TableCell]:
    claimed = "reported only" if effect.claimed is None else f"{effect.claimed} {shown(effect.reference)}"
    seeds = "; ".join(f"{label}: {', '.join(shown(value) for value in values)}" for label, values in effect.groups)
    return [
        TableCell(effect.name),
        TableCell(effect.measure),
        TableCell(shown(effect.estimate), is_number=True),
        TableCell(interval(effect), is_number=True),
        TableCell(shown(effect.standardised), is_number=True),
        TableCell(claimed),
        TableCell(effect.verdict if effect.claimed is not None else "-"),
        TableCell(seeds),
    ]


def _special(outcome: Outcome, evidence: Evidence) -> list[Picture]:
    """Further charts of a claim: curves over steps, metrics over epochs, and where latents change an image."""
    claim, pictures = outcome.claim, []
    for metric, title in _OVER_EPOCHS.items():
        series = _series(claim.subjects, evidence, partial(_over_epochs, metric))
        if series and max(len(curve.steps) for curves in series.values() for curve in curves) > 1:
            figure = charts.metric_chart(series, y_label=title, x_label="epoch")
            pictures.append(picture_of_svg(charts.svg(figure), f"{title} over epochs"))
    for name in claim.curves:
        for title, keys in _PER_STEP.items():
            lines = {
                _NAMES[key]: curves
                for key in keys
                for curves in _series((name,), evidence, partial(_per_step, key)).values()
            }
            caption = f"{title}: {SUBJECTS[name].title}"
            pictures.append(picture_of_svg(charts.svg(charts.step_chart(lines, y_label=title.lower())), caption))
    if "latents" in claim.groups:
        epoch = {name: evidence.epochs(name)[-1] for name in claim.subjects}
        titles = {name: SUBJECTS[name].title for name in claim.subjects}
        maps = {titles[name]: evidence.mean_array(name, "latent_map", epoch[name]) for name in claim.subjects}
        changes = {titles[name]: evidence.mean_array(name, "latent_changes", epoch[name]) for name in claim.subjects}
        pictures += [_maps_picture(maps), _changes_picture(changes)]
    return pictures


def _effect_picture(effect: Effect) -> Picture:
    """One dot per seed, one row per group, and a bar at each mean. Values that are not finite are left out."""
    figure, axes = charts.new_chart(height=1.1 + 0.42 * len(effect.groups))
    for row, (_, values) in enumerate(effect.groups):
        finite = [value for value in values if np.isfinite(value)]
        colour = charts.COLOURS[row % len(charts.COLOURS)]
        axes.plot(finite, [row] * len(finite), "o", color=colour, alpha=0.75, markersize=6)
        if len(finite) == len(values):
            axes.plot([np.mean(values)], [row], "|", color=colour, markersize=18, markeredgewidth=2)
    if effect.reference or len(effect.groups) == 1:
        axes.axvline(effect.reference, color=INK, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(effect.groups)), [fill(label, 26) for label, _ in effect.groups])
    axes.set_ylim(len(effect.groups) - 0.5, -0.5)
    axes.tick_params(labelsize=8)
    axes.set_title(fill(effect.name, 74), fontsize=9)
    return picture_of_svg(charts.svg(figure, grid="x"), effect.name)


def _maps_picture(maps: Mapping[str, Floats]) -> Picture:
    """Maps of where images change, side by side, on one scale from 0."""
    figure = charts.new_figure(6.4, 3.0)
    axes = list(np.atleast_1d(figure.subplots(1, len(maps))))
    highest = max(float(each.max()) for each in maps.values())
    for each, (title, change) in zip(axes, maps.items(), strict=True):
        drawn = each.imshow(change, vmin=0, vmax=highest or 1.0, cmap="viridis", interpolation="nearest")
        each.set_title(title, fontsize=9)
        each.set_xticks([])
        each.set_yticks([])
    figure.colorbar(drawn, ax=axes, label="change, share of black to white")
    return picture_of_svg(charts.svg(figure, grid=""), "Where images change, mean over all coordinates")


def _changes_picture(changes: Mapping[str, Floats]) -> Picture:
    """The change by each coordinate, from the largest to the smallest; one line per name."""
    x_label = "coordinates, from the strongest to the weakest"
    figure, axes = charts.new_chart(height=3.0, x_label=x_label, y_label="change")
    for index, (name, values) in enumerate(changes.items()):
        axes.plot(np.sort(values)[::-1], color=charts.COLOURS[index % len(charts.COLOURS)], label=name)
    return picture_of_svg(charts.svg(figure, grid="x"), "Change by each coordinate")


def _series(
    names: Sequence[str], evidence: Evidence, curve: Callable[[Course], Curve | None]
) -> Mapping[str, list[Curve]]:
    found = {
        SUBJECTS[name].title: [each for each in map(curve, evidence.courses[name].values()) if each is not None]
        for name in names
    }
    return {title: curves for title, curves in found.items() if curves}


def _over_epochs(metric: str, course: Course) -> Curve | None:
    points = [(epoch, metrics[metric]) for epoch, metrics in course.metrics.items() if metric in metrics]
    if not points:
        return None
    return Curve(np.array([epoch for epoch, _ in points], float), np.array([value for _, value in points], float))


def _per_step(name: str, course: Course) -> Curve | None:
    values = course.curves.get(name)
    return None if values is None else Curve(np.arange(1, len(values) + 1, dtype=float), values)

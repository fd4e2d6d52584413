"""The page of the claims: verdicts, effects, the values of every seed, and what others have found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from benchmarks.claims.charts import effect_svg, maps_svg, sorted_svg
from benchmarks.claims.evidence import Course, Evidence
from benchmarks.claims.outcomes import LABELS, Outcome
from benchmarks.claims.statistics import Effect, interval, shown
from benchmarks.claims.subjects import SUBJECTS, Setting
from trainer.report.charts import curves_svg, metric_svg
from trainer.report.page import Detail, Page, Table, TableCell
from trainer.report.pictures import Picture, picture_of_svg
from trainer.report.record import Curve

_NOTE = (
    "An interval is the expanded percentile bootstrap over seeds, 95 %; with three seeds it reaches from one extreme to"
    " the other. A claim is supported if all effects that decide it lie on the claimed side of their reference."
)
_OVER_EPOCHS = {"frechet_distance": "Frechet distance", "laplacian_ratio": "Laplacian variance over that of reals"}
_PER_STEP = {"Losses": ("d_loss", "g_loss"), "Scores of D": ("d_real", "d_fake")}
_NAMES = {"d_loss": "D", "g_loss": "G", "d_real": "D(x)", "d_fake": "D(G(z))"}


def claims_page(outcomes: Sequence[Outcome], evidence: Evidence, setting: Setting) -> Page:
    """Everything that was found, for a reader."""
    rows = [
        [TableCell(text) for text in (outcome.claim.id, outcome.claim.sentence, outcome.verdict, outcome.why)]
        for outcome in outcomes
    ]
    return Page(
        title="Claims about GANs",
        label=LABELS[setting.scale],
        lead=["What is said of these GANs, and what the trainings here say of it. Nothing is assumed."],
        tables=[Table("Verdicts", ("claim", "what is said", "verdict", "why"), rows, _NOTE)],
        details=[_detail(outcome, evidence) for outcome in outcomes],
    )


def _detail(outcome: Outcome, evidence: Evidence) -> Detail:
    claim = outcome.claim
    lines = [
        f"Said by: {claim.source}.",
        f"Tested so: {claim.method}",
        f"Known from elsewhere: {claim.outside}",
        f"Verdict: {outcome.verdict} ({outcome.why}).",
    ]
    pictures: list[Picture] = []
    if outcome.effects:
        pictures += _special(outcome, evidence)
        pictures += [picture_of_svg(effect_svg(effect), effect.name) for effect in outcome.effects]
    headings = ("effect", "measure", "estimate", "95 % interval", "Hedges' g", "claimed", "says", "each seed")
    tables = [Table("Effects", headings, [_row(effect) for effect in outcome.effects])] if outcome.effects else []
    title = f"{claim.id}. {claim.sentence}"
    return Detail(title=title, lines=lines, warnings=outcome.notes, pictures=pictures, tables=tables)


def _row(effect: Effect) -> list[TableCell]:
    claimed = "reported alone" if effect.claimed is None else f"{effect.claimed} {shown(effect.reference)}"
    seeds = "; ".join(f"{label}: {', '.join(shown(value) for value in values)}" for label, values in effect.groups)
    return [
        TableCell(effect.name),
        TableCell(effect.measure),
        TableCell(shown(effect.estimate), is_number=True),
        TableCell(interval(effect), is_number=True),
        TableCell(shown(effect.standardised), is_number=True),
        TableCell(claimed + ("" if effect.decides or effect.claimed is None else ", does not decide")),
        TableCell(effect.verdict if effect.claimed is not None else "-"),
        TableCell(seeds),
    ]


def _special(outcome: Outcome, evidence: Evidence) -> list[Picture]:
    """What else a claim shows: curves of steps, metrics over epochs, and where latents change an image."""
    claim, pictures = outcome.claim, []
    for metric, title in _OVER_EPOCHS.items():
        series = _series(claim.subjects, evidence, partial(_over_epochs, metric))
        if series and max(len(curve.steps) for curves in series.values() for curve in curves) > 1:
            pictures.append(picture_of_svg(metric_svg(series, y_label=title, x_label="epoch"), f"{title} over epochs"))
    for name in claim.curves:
        for title, keys in _PER_STEP.items():
            lines = {
                _NAMES[key]: curves
                for key in keys
                for curves in _series((name,), evidence, partial(_per_step, key)).values()
            }
            caption = f"{title}: {SUBJECTS[name].title}"
            pictures.append(picture_of_svg(curves_svg(lines, y_label=title.lower()), caption))
    if "latents" in claim.groups:
        epoch = {name: evidence.epochs(name)[-1] for name in claim.subjects}
        titles = {name: SUBJECTS[name].title for name in claim.subjects}
        maps = {titles[name]: evidence.mean_array(name, "latent_map", epoch[name]) for name in claim.subjects}
        changes = {titles[name]: evidence.mean_array(name, "latent_changes", epoch[name]) for name in claim.subjects}
        pictures.append(picture_of_svg(maps_svg(maps), "Where images change, mean over all coordinates"))
        chart = sorted_svg(changes, "coordinates, from the strongest to the weakest", "change")
        pictures.append(picture_of_svg(chart, "Change by each coordinate"))
    return pictures


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

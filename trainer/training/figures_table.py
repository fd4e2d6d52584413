"""The table of a run's figures at its end, beside those of real or unchanged images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from rich.table import Table

from ganserve.metrics import METRICS, STANDARD_ERROR
from trainer.config import AnyConfig
from trainer.metrics.scorer import shown
from trainer.runs.collapse import finite_number
from trainer.training.session import Summary

_REAL: Final = "_real"  # ends the name of a metric of real images
_UNCHANGED: Final = "_unchanged"  # ends the name of a metric of untranslated images


def figures_table(config: AnyConfig, summary: Summary) -> Table:
    """One row per metric: in the last evaluation, at the best checkpoint, and its reference, with standard errors.

    The reference of images made from latents is the metric of real images against other real images; that of
    translations is the metric of unchanged images.
    """
    note = ""
    if (floor_images := summary.floor.get("real_images")) is not None:
        note = f", {floor_images} real images against {floor_images} others"
    table = Table(
        title=f"{summary.run.name}: step {summary.step}{note}", title_justify="left", box=None, pad_edge=False
    )
    for heading in ("metric", "last", "best", "real images" if config.takes_latents else "unchanged", "better"):
        table.add_column(heading, justify="left" if heading in {"metric", "better"} else "right")
    for name in summary.last:
        if name in METRICS and not name.endswith((_REAL, _UNCHANGED)):
            metric = METRICS[name]
            mark = " *" if name == config.score_metric else ""
            last, best = (_shown(name, figures) for figures in (summary.last, summary.best))
            table.add_row(
                f"{metric.label}{mark}", last, best, _reference(name, summary), metric.better.removesuffix(" images")
            )
    return table


def _reference(name: str, summary: Summary) -> str:
    """The value among the real images of the same evaluation, or of the floor, or of unchanged images."""
    found: Mapping[str, Any] = {**summary.floor, **summary.last}
    pair = name.removesuffix("_ab").removesuffix("_ba")
    for reference in (f"{name}{_REAL}", f"{pair}{_UNCHANGED}"):
        if reference in found:
            return _shown(reference, found)
    return _shown(name, summary.floor)


def _shown(name: str, figures: Mapping[str, Any]) -> str:
    numbers = (finite_number(figures.get(key)) for key in (name, f"{name}{STANDARD_ERROR}"))
    return shown(*(math.nan if number is None else number for number in numbers))

"""The table of a run's figures at its end, beside those of real or unchanged images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from rich.table import Table

from ganserve.metrics import METRICS
from trainer.config import AnyConfig
from trainer.metrics.scorer import shown
from trainer.training.session import Summary

_REAL: Final = "_real"  # ends the name of a metric of real images
_UNCHANGED: Final = "_unchanged"  # ends the name of a metric of untranslated images


def figures_table(config: AnyConfig, summary: Summary) -> Table:
    """One row per metric: in the last evaluation, at the best checkpoint, and its reference.

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
    for name, value in summary.last.items():
        if not name.endswith((_REAL, _UNCHANGED)):
            metric = METRICS[name]
            mark = " *" if name == config.score_metric else ""
            values = (value, summary.best.get(name), _reference(name, summary))
            table.add_row(f"{metric.label}{mark}", *map(_shown, values), metric.better)
    return table


def _reference(name: str, summary: Summary) -> float | None:
    """The value among the real images of the same evaluation, or of the floor, or of unchanged images."""
    found: Mapping[str, Any] = {**summary.floor, **summary.last}
    pair = name.removesuffix("_ab").removesuffix("_ba")
    value = found.get(f"{name}{_REAL}", found.get(f"{pair}{_UNCHANGED}", summary.floor.get(name)))
    return None if value is None else float(value)


def _shown(value: float | None) -> str:
    return shown(math.nan if value is None else value)

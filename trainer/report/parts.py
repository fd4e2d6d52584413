"""Parts shared by the pages of runs and sweeps: metrics, charts, settings, commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from ganserve.metrics import METRICS
from trainer.config import AnyConfig
from trainer.errors import UserError
from trainer.flags import FIELDS
from trainer.metrics.choosing import has_best
from trainer.own_pictures import PRESET as OWN_PICTURES
from trainer.presets import choose_preset
from trainer.report.page import WIDE_PIXELS, Picture, picture_of_file, picture_of_svg
from trainer.report.record import RunRecord
from trainer.runs import charts
from trainer.runs.charts import Curve

Groups = Mapping[str, Sequence[RunRecord]]  # by the name of a cell or run; one record per seed

_DECIMALS: Final = {
    "sliced_wasserstein_distance": 2,
    "sliced_wasserstein_distance_mmgeneration": 2,
    "frechet_distance": 3,
    "inception_fid": 2,
    "inception_kid": 5,
}
_LENGTHS = ("epochs", "steps", "images")
_NEVER_SHOWN = frozenset({"schema_version", "kind", "model", "preset", "dataset", "network.channels"})


def label_of(name: str) -> str:
    """The short name of a metric, for tables and axes."""
    metric = METRICS.get(name)
    return name if metric is None else metric.label


def heading_of(name: str) -> str:
    """The short name of a metric, and which way is better."""
    metric = METRICS.get(name)
    if metric is None or (metric.better != "as real images" and not has_best(name)):
        return label_of(name)
    better = f"{metric.better} is better" if has_best(name) else "as among real images"
    return f"{metric.label} ({better})"


def shown_metric(name: str, value: float) -> str:
    """A value, rounded to the decimals of its metric."""
    return f"{value:.{_DECIMALS.get(name, 4)}f}"


def training_charts(records: Sequence[RunRecord]) -> list[Picture]:
    """Charts of what every step logs, for the runs of one cell."""
    if not any(record.curves for record in records):
        return []
    config = records[0].config
    probabilities = config.scores_are_probabilities
    pictures = []
    for chart in (charts.LOSSES, charts.confidence(probabilities=probabilities), charts.LOSS_PARTS, charts.ACCURACY):
        series = {label: _curves(records, key) for label, key in chart.keys.items()}
        if any(series.values()):
            figure = charts.step_chart(series, y_label=chart.y_label)
            pictures.append(picture_of_svg(charts.svg(figure), chart.title))
    return pictures


_NOT_IN_ALL_RUNS: Final = {"traversal.png", "growth.png"}  # of older versions; of networks that do not grow


def drawn_figures(record: RunRecord, which: str = "") -> list[Picture]:
    """The figures, other than curves, that a run draws at its end; `which` ends their captions."""
    figures = record.path / "figures"
    return [
        picture_of_file(figures / name, caption + which, side=WIDE_PIXELS, is_pixels=False)
        for name, caption in record.config.FIGURES.items()
        if name not in _NOT_IN_ALL_RUNS or (figures / name).is_file()
    ]


def metric_charts(groups: Groups, names: Sequence[str]) -> list[Picture]:
    """Each metric over the steps of its evaluations, one line per cell or run."""
    pictures = []
    for name in names:
        series = {group: [_metric_curve(record, name) for record in records] for group, records in groups.items()}
        figure = charts.metric_chart(series, y_label=label_of(name))
        pictures.append(picture_of_svg(charts.svg(figure), heading_of(name)))
    return pictures


def metric_names(records: Sequence[RunRecord], wanted: Sequence[str] = ()) -> list[str]:
    """The metrics of any evaluation of the runs, in order; only the wanted ones, if any are given."""
    found = dict.fromkeys(name for record in records for row in record.evaluations for name in row.metrics)
    return [name for name in (wanted or found) if name in found]


def explanations(names: Sequence[str]) -> str:
    """One sentence per metric, with its source."""
    metrics = [METRICS[name] for name in names if name in METRICS]
    return " ".join(
        f"{metric.label}: {metric.explanation}{f' ({metric.source})' if metric.source else ''}." for metric in metrics
    )


def protocol_text(records: Sequence[RunRecord]) -> str:
    """The protocol of the last evaluations; names what differs among the runs."""
    rows = [record.last.protocol for record in records if record.last is not None]
    names = dict.fromkeys(name for row in rows for name in row if name != "levels")
    parts = []
    for name in names:
        values = dict.fromkeys(row[name] for row in rows if name in row)
        shown = next(iter(values)) if len(values) == 1 else f"differs ({', '.join(list(values)[:4])})"
        parts.append(f"{name.replace('_', ' ')} {shown}")
    return "Protocol: " + "; ".join(parts) + "." if parts else ""


def warning_lines(record: RunRecord) -> list[str]:
    """The warnings of a run, one line each."""
    lines = [f"{record.name}, step {step:,}: {text}" for step, text in record.warnings]
    return [*lines, f"{record.name}: {record.more_warnings:,} more warnings"] if record.more_warnings else lines


def settings_of(config: AnyConfig) -> list[tuple[str, str]]:
    """All settings, named as in config.json."""
    return [(name, msgspec.json.encode(value).decode()) for name, value in _flat(msgspec.to_builtins(config))]


def command_of(config: AnyConfig) -> tuple[str, str]:
    """The command that trains a run with these settings, and a note on settings without a flag."""
    words = ["python", "-m", "trainer", "--model", config.model, "--preset", config.preset, "--dataset", config.dataset]
    if config.preset == OWN_PICTURES:  # chosen by the trainer from the pictures
        return shlex.join([*words[:5], *words[7:]]), "the settings follow from the pictures; --config RUN repeats them"
    try:
        preset = dict(_flat(msgspec.to_builtins(choose_preset(config.model, config.preset, config.dataset))))
    except UserError:
        return shlex.join(words), f"this version has no preset {config.preset!r}; the other settings are in config.json"
    flags = {field: f"--{flag.replace('_', '-')}" for flag, field in FIELDS.items()}
    flags |= {"evaluate_every_steps": "--eval-every", "evaluation_images": "--eval-images", "precision": "--precision"}
    flags |= {name: f"--{name}" for name in _LENGTHS}
    without_flag = []
    for name, value in _flat(msgspec.to_builtins(config)):
        # Without the flag, the trainer picks a precision for its device.
        if name in _NEVER_SHOWN or (preset.get(name) == value and name != "precision"):
            continue
        if name in flags and value is not None:
            words += _flag_words(flags[name], value)
        elif name not in _LENGTHS:
            without_flag.append(f"{name} = {msgspec.json.encode(value).decode()}")
    note = f"no flag sets {', '.join(without_flag)}; see config.json" if without_flag else ""
    return shlex.join(words), note


def _flag_words(flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag] if value else [f"--no-{flag[2:]}"]
    if isinstance(value, list | tuple):
        return [flag, *map(str, value)]
    return [flag, str(value)]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict) and name in {"network", "growth"}:
            yield from _flat(value, f"{name}.")
        else:
            yield prefix + name, value


def _curves(records: Sequence[RunRecord], key: str) -> list[Curve]:
    return [record.curves[key] for record in records if key in record.curves]


def _metric_curve(record: RunRecord, name: str) -> Curve:
    points = [(row.step, row.metrics[name]) for row in record.evaluations if name in row.metrics]
    return Curve(np.array([step for step, _ in points], float), np.array([value for _, value in points], float))

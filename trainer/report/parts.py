"""Parts shared by the pages of runs and sweeps: metrics, charts, settings, commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from ganserve.metrics import METRICS
from trainer.config import AnyConfig, override
from trainer.errors import UserError
from trainer.flags import FIELDS
from trainer.metrics.choosing import has_best, is_best
from trainer.metrics.scorer import shown
from trainer.own_pictures import PRESET as OWN_PICTURES
from trainer.presets import choose_preset
from trainer.report.page import AXES, WIDE_PIXELS, Picture, Table, TableCell, picture_of_file, picture_of_svg
from trainer.report.record import EvaluationRow, RunRecord, compared_protocol
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
    pictures = []
    for chart in (charts.losses(config), charts.scores(config), charts.LOSS_PARTS, charts.ACCURACY):
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
    """Each metric over steps, images and time, one line per cell or run; its reference is a level line."""
    pictures = []
    for name in names:
        references = reference_lines([record for records in groups.values() for record in records], name)
        for axis in AXES:
            series = {group: metric_curves(records, name, axis) for group, records in groups.items()}
            figure = charts.metric_chart(
                series, y_label=label_of(name), x_label=_AXIS_LABELS[axis], references=references
            )
            pictures.append(picture_of_svg(charts.svg(figure), heading_of(name), axis))
    return pictures


_AXIS_LABELS: Final = {"steps": "steps", "images": "real images shown", "time": "training time (min)"}


def metric_curves(records: Sequence[RunRecord], name: str, axis: str) -> list[Curve]:
    """A metric of the runs of one cell; over time, all runs take as long as their mean."""
    curves = []
    for record in records:
        rows = [row for row in record.evaluations if name in row.metrics]
        steps = [row.step for row in rows]
        places = np.array([_mean_minutes(records, step) for step in steps], float) if axis == "time" else None
        errors = [row.errors.get(name, 0.0) for row in rows]
        curves.append(
            Curve(
                record.places(steps, axis) if places is None else places,
                np.array([row.metrics[name] for row in rows], float),
                np.array(errors, float) if any(errors) else None,
            )
        )
    return curves


def _mean_minutes(records: Sequence[RunRecord], step: int) -> float:
    """The training time until a step, the mean over the runs that have reached it."""
    return float(np.mean([record.places([step], "time") for record in records if record.steps >= step]))


def reference_of(record: RunRecord, name: str) -> tuple[str, EvaluationRow, str] | None:
    """What a metric is compared with: a label, the evaluation that holds it, and the name of the metric there.

    The same metric of the real images of the last evaluation, of the floor, or of unchanged images.
    """
    last, floor = record.last, record.floor
    unchanged = f"{name.removesuffix('_ab').removesuffix('_ba')}_unchanged"
    if last is not None and f"{name}_real" in last.metrics:
        return "real images", last, f"{name}_real"
    if last is not None and unchanged in last.metrics:
        return "unchanged", last, unchanged
    if floor is not None and name in floor.metrics:
        return "real images", floor, name
    return None


def reference_lines(records: Sequence[RunRecord], name: str) -> dict[str, float]:
    """The mean reference of a metric by its label; empty if the runs have references of different protocols."""
    found = [reference for record in records if (reference := reference_of(record, name)) is not None]
    protocols = {compared_protocol(key, row) for _, row, key in found}
    datasets = {record.config.dataset for record in records}
    if not found or len(protocols) > 1 or len(datasets) > 1:
        return {}
    return {found[0][0]: sum(row.metrics[key] for _, row, key in found) / len(found)}


def is_reference(name: str) -> bool:
    """Whether a metric is the reference of another: of real or of unchanged images."""
    return name.endswith(("_real", "_unchanged"))


def is_best_of(
    name: str, record: RunRecord, row: EvaluationRow, others: Sequence[tuple[RunRecord, EvaluationRow]]
) -> bool:
    """Whether no evaluation of the same data set and protocol is better; False without another to compare with."""
    protocol = (record.config.dataset, compared_protocol(name, row))
    alike = [
        other.metrics[name]
        for of, other in others
        if name in other.metrics and (of.config.dataset, compared_protocol(name, other)) == protocol
    ]
    return name in row.metrics and len(alike) > 1 and is_best(name, row.metrics[name], alike)


def shown_with_error(name: str, row: EvaluationRow) -> str:
    """A metric of an evaluation and its standard error, as text."""
    if name not in row.metrics:
        return "-"
    error = row.errors.get(name)
    return shown_metric(name, row.metrics[name]) if not error else shown(row.metrics[name], error)


_MOST_COLUMNS: Final = 8


def differing_settings(configs: Mapping[str, AnyConfig]) -> list[Table]:
    """The settings that differ among the runs or cells that have them, without seeds; no table if there are none."""
    flat = {
        name: {key: "-" if value == "null" else value.strip('"') for key, value in settings_of(config)}
        for name, config in configs.items()
    }
    keys = dict.fromkeys(key for settings in flat.values() for key in settings if key not in _NOT_COMPARED_SETTINGS)
    differing = [key for key in keys if len({settings[key] for settings in flat.values() if key in settings}) > 1]
    if not differing:
        return []

    def cell(name: str, key: str) -> TableCell:
        return TableCell(flat[name].get(key, "-"), is_number=True)

    if len(flat) <= _MOST_COLUMNS:
        rows = [[TableCell(key), *(cell(name, key) for name in flat)] for key in differing]
        return [Table("Settings that differ", ["setting", *flat], rows)]
    rows = [[TableCell(name), *(cell(name, key) for key in differing)] for name in flat]
    return [Table("Settings that differ", ["", *differing], rows)]


_NOT_COMPARED_SETTINGS: Final = {"schema_version", "kind", "seed", "device", "data_root", "network.channels"}
_PLACES: Final = ("data_root", "init_from", "inception_weights")


def without_places(config: AnyConfig) -> AnyConfig:
    """The config with the names of files and folders, but not where they are: a page may be shown to others."""
    kind, colon, path = config.dataset.partition(":")
    places = {name: shown_path(value) for name in _PLACES if (value := getattr(config, name, None))}
    return override(config, places | {"dataset": f"{kind}{colon}{shown_path(path) if colon else ''}"})


def shown_path(path: str | Path) -> str:
    """A relative path as it is, of another only the name."""
    path = Path(path)
    return path.name if path.is_absolute() or ".." in path.parts or "~" in path.parts else str(path)


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
        cut = 12 if name.endswith("sha256") else None
        values = dict.fromkeys(row[name][:cut] for row in rows if name in row)
        shown = next(iter(values)) if len(values) == 1 else f"differs ({', '.join(list(values)[:4])})"
        parts.append(f"{name.replace('_', ' ')} {shown}")
    return "Protocol: " + "; ".join(parts) + "." if parts else ""


def warning_lines(record: RunRecord) -> list[str]:
    """The warnings of a run, one line each."""
    lines = [f"{record.name}, step {step:,}: {text}" for step, text in record.warnings]
    return [*lines, f"{record.name}: {record.more_warnings:,} more warnings"] if record.more_warnings else lines


def settings_of(config: AnyConfig) -> list[tuple[str, str]]:
    """All settings, named as in config.json."""
    flat = _flat(msgspec.to_builtins(without_places(config)))
    return [(name, msgspec.json.encode(value).decode()) for name, value in flat]


def command_of(config: AnyConfig) -> tuple[str, str]:
    """The command that trains a run with these settings, and a note on settings without a flag."""
    config = without_places(config)
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
    if key == charts.SCORE_DIFFERENCE:
        pairs = zip(_curves(records, "d_real"), _curves(records, "d_fake"), strict=True)
        return [charts.difference(real, fake) for real, fake in pairs]
    return [record.curves[key] for record in records if key in record.curves]

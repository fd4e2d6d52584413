"""The cells of a sweep: every combination of its axes, each a complete config, checked before training starts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from trainer.config import AnyConfig, check_flags, override, with_precision
from trainer.data.datasets import check_dataset_name, normal_name
from trainer.errors import UserError
from trainer.parallel import choose_device
from trainer.presets import choose_preset
from trainer.settings import LENGTHS, Setting, fields_of
from trainer.sweep.spec import Settings, Spec

MAX_CELLS = 1000
MAX_TRIALS = 10_000
_CHOOSES_PRESET = ("model", "preset", "dataset")
_CELL_NAME = re.compile(r"[^\x00-\x1f\x7f<>|]{1,80}")


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    name: str  # in reports: "128, adam"
    folder: str  # name of its folder: "128-adam"
    varied: tuple[tuple[str, str], ...]  # axis, and its value or name
    settings: Settings  # from the axes only
    config: AnyConfig  # with the first seed


def cells_of(spec: Spec) -> list[Cell]:
    """All cells, in the order of the axes; the last axis varies fastest.

    Raises:
        UserError: a setting of a cell is invalid, or two cells are equal; the message names cell and flag.
    """
    if len(set(spec.seeds)) < len(spec.seeds):
        raise UserError("seeds: a seed occurs twice; give each once")
    for axis_name, values in spec.axes.items():
        if not values:
            raise UserError(f"axes.{axis_name}: no values; give at least one")
    count = 1
    for axis in spec.axes.values():
        count *= len(axis)
    if count > MAX_CELLS or count * len(spec.seeds) > MAX_TRIALS:
        raise UserError(
            f"axes: {count} cells and {count * len(spec.seeds)} trials; at most {MAX_CELLS} and {MAX_TRIALS}"
        )
    cells: list[Cell] = []
    for points in itertools.product(*(_points(name, axis) for name, axis in spec.axes.items())):
        varied = tuple((axis_name, value) for axis_name, value, _ in points)
        settings: Settings = {}
        for axis_name, _, group in points:
            twice = [field for field in group if field in settings]
            if twice:
                raise UserError(f"axes.{axis_name}: another axis sets {twice[0]} as well")
            settings |= group
        # A plain value needs the name of its axis; a group has its own name.
        name = ", ".join(
            f"{axis_name} {value}" if isinstance(spec.axes[axis_name], list) else value for axis_name, value in varied
        )
        name = name or "base"
        try:
            config = resolve(spec, settings, spec.seeds[0])
        except UserError as error:
            raise UserError(f"cell {name}: {error}") from error
        cells.append(Cell(name, _folder(name), varied, settings, config))
    for one, other in itertools.combinations(cells, 2):
        if one.config == other.config:
            raise UserError(f"axes: the cells {one.name!r} and {other.name!r} have equal settings; remove one")
        if one.folder == other.folder:
            raise UserError(f"axes: the cells {one.name!r} and {other.name!r} have the same folder name; rename one")
    return cells


def resolve(spec: Spec, settings: Settings, seed: int) -> AnyConfig:
    """The config of a cell with a seed, checked as far as possible without data.

    Raises:
        UserError: a setting is invalid; the message names the flag.
    """
    both = {**spec.base}
    if any(name in settings for name in LENGTHS):
        both = {name: value for name, value in both.items() if name not in LENGTHS}
    both |= settings
    chosen = {name: _text(name, both.get(name)) for name in _CHOOSES_PRESET}
    if chosen["model"] is None:
        raise UserError("--model is missing: set base.model")
    if chosen["dataset"] is not None:
        if not chosen["dataset"]:
            raise UserError("--dataset: this sweep needs your data; give --set dataset=zip:PATH, or folder:PATH")
        chosen["dataset"] = normal_name(chosen["dataset"])
        check_dataset_name(chosen["dataset"])
    fields = fields_of({name: value for name, value in both.items() if name not in _CHOOSES_PRESET})
    if "seed" in fields:
        raise UserError("--seed: not for sweeps; set seeds = [...] instead")
    config = override(choose_preset(chosen["model"], chosen["preset"], chosen["dataset"]), fields | {"seed": seed})
    config.check()
    check_flags(config, (field.rpartition(".")[2] for field in fields))
    if "precision" in fields:
        return config
    return with_precision(config, "auto", choose_device(config.device))


def _text(name: str, value: Setting | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UserError(f"--{name} {value!r}: give a name")
    return value


def _points(axis: str, values: list[Setting] | dict[str, Settings]) -> Iterator[tuple[str, str, Settings]]:
    """Axis, value or name, and settings of each point on an axis."""
    for value in values:
        label = str(value) if isinstance(values, dict) else _shown(value)
        if not _CELL_NAME.fullmatch(label):
            raise UserError(f"axes.{axis}: {label[:100]!r} is not a valid cell name; use 1 to 80 printable characters")
        yield axis, label, values[str(value)] if isinstance(values, dict) else {axis: value}


def _shown(value: Setting) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _folder(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.").lower() or "cell"

"""The spec of a sweep: a TOML file, decoded strictly, and its quick form that a CPU runs in minutes.

`base` names a preset and settings, by the names of the trainer's flags. `axes` lists what varies: an axis is a list of
values of one setting, or a table of named groups of settings. Every combination of the axes is a cell, trained with
every seed. docs/experiments.md has an example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec.structs import replace

from trainer.errors import UserError
from trainer.settings import LENGTHS, Setting

MAX_SPEC_BYTES = 1 << 20
Settings: TypeAlias = dict[str, Setting]
Axis: TypeAlias = list[Setting] | dict[str, Settings]
Seeds = Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=2**53)]], msgspec.Meta(min_length=1, max_length=100)]
Moments = Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=10**9)]], msgspec.Meta(max_length=50)]


class Quick(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same sweep, scaled down."""

    seeds: Seeds | None = None
    base: Settings = {}
    axes: dict[str, Axis] = {}
    show_at_epochs: Moments | None = None
    show_at_steps: Moments | None = None


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sweep."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    reproduces: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    seeds: Seeds
    base: Settings
    axes: dict[str, Axis] = {}
    show_at_epochs: Moments = []  # moments of the sample grids in the report, in addition to the end
    show_at_steps: Moments = []
    measures: Annotated[list[str], msgspec.Meta(max_length=50)] = []  # metrics in the report; empty: all
    quick: Quick | None = None
    is_quick: bool = False  # set by `quick_form`, never by a file


def read_spec(path: Path) -> Spec:
    """Reads a spec strictly.

    Raises:
        UserError: the file is missing or invalid; the message names the field.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); give the TOML file of a sweep") from error
    if len(content) > MAX_SPEC_BYTES:
        raise UserError(f"{path}: larger than {MAX_SPEC_BYTES} bytes, so not a sweep spec")
    try:
        spec = msgspec.toml.decode(content, type=Spec)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: {_one_line(error)}") from error
    if spec.is_quick:
        raise UserError(f"{path}: is_quick: not allowed in a file; give --quick instead")
    return spec


def quick_form(spec: Spec) -> Spec:
    """The sweep with the values of its table `quick`.

    Raises:
        UserError: the spec has no such table.
    """
    quick = spec.quick
    if quick is None:
        raise UserError("--quick: this spec has no table [quick]; add one, or leave out --quick")
    unknown = [name for name in quick.axes if name not in spec.axes]
    if unknown:
        raise UserError(f"quick.axes.{unknown[0]}: the sweep has no such axis")
    return replace(
        spec,
        seeds=quick.seeds or spec.seeds,
        base=_with_length_of(spec.base, quick.base),
        axes={name: quick.axes.get(name, axis) for name, axis in spec.axes.items()},
        show_at_epochs=spec.show_at_epochs if quick.show_at_epochs is None else quick.show_at_epochs,
        show_at_steps=spec.show_at_steps if quick.show_at_steps is None else quick.show_at_steps,
        quick=None,
        is_quick=True,
    )


def with_settings(spec: Spec, settings: Settings) -> Spec:
    """The sweep with other settings for all its cells.

    Raises:
        UserError: an axis varies one of them.
    """
    for name in settings:
        for axis, values in spec.axes.items():
            varied = [axis] if isinstance(values, list) else [field for group in values.values() for field in group]
            if name in varied:
                raise UserError(f"--set {name}: the axis {axis!r} varies it; change the spec")
    return replace(spec, base=_with_length_of(spec.base, settings))


def _with_length_of(settings: Settings, newer: Settings) -> Settings:
    """Merges settings; newer ones win, and a length replaces one in another unit."""
    if any(name in newer for name in LENGTHS):
        settings = {name: value for name, value in settings.items() if name not in LENGTHS}
    return settings | newer


def _one_line(error: Exception) -> str:
    reason: Any = " ".join(str(error).split())
    return f"{reason[:1].lower()}{reason[1:300]}"

"""The form KEY=VALUE of --set, which names any flag or field of a config."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from trainer.errors import UserError
from trainer.flags import FIELDS

_SETTING = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_.]{0,60})=(?P<value>.*)", re.DOTALL)

IMAGE_SIZE: Final = "network.image_size"
_SIZE = re.compile(r"(?P<height>[0-9]{1,9})(?:x(?P<width>[0-9]{1,9}))?", re.IGNORECASE | re.ASCII)

LENGTHS: Final = ("epochs", "steps", "images")

Setting: TypeAlias = bool | int | float | str | list[float | str]


def parse_setting(text: str) -> tuple[str, Setting]:
    """Parses KEY=VALUE. The value is TOML, or else a plain string.

    Raises:
        UserError: the text has another form.
    """
    match = _SETTING.fullmatch(text)
    if match is None:
        raise UserError(f"--set {text!r}: give KEY=VALUE, such as --set dataset=zip:faces.zip or --set epochs=5")
    try:
        value = tomllib.loads(f"value = {match['value']}")
        return match["name"], msgspec.convert(value["value"], Setting) if len(value) == 1 else match["value"]
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError):
        return match["name"], match["value"]


def fields_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, named after flags or fields of the config, as fields of the config.

    A length replaces those in other units, and `lr` sets both learning rates that are not set by themselves.

    Raises:
        UserError: there are lengths in several units.
    """
    fields: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "lr":
            fields |= {"generator_lr": value, "discriminator_lr": value} | {
                key: fields[key] for key in ("generator_lr", "discriminator_lr") if key in fields
            }
        elif name in LENGTHS:
            given = [other for other in LENGTHS if other in settings]
            if len(given) > 1:
                raise UserError(f"{' and '.join(f'--{other}' for other in given)}: give one of them")
            fields |= {other: value if other == name else None for other in LENGTHS}
        elif FIELDS.get(name, name) == IMAGE_SIZE:
            fields |= _size_fields(value)
        elif name == "augment" and isinstance(value, str):
            fields[name] = [] if value == "none" else value.split(",")
        else:
            fields[FIELDS.get(name, name)] = value
    return fields


def _size_fields(value: int | str) -> dict[str, int | None]:
    """A side of a square, or "64x48"."""
    match = _SIZE.fullmatch(str(value))
    if match is None:
        raise UserError(
            f"--image-size {value}: give the side of a square, such as 64, or height x width, such as 64x48"
        )
    height, width = int(match["height"]), int(match["width"] or match["height"])
    return {IMAGE_SIZE: height, "network.image_width": None if width == height else width}

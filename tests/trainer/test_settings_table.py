from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from trainer.config import override
from trainer.flags import FIELDS, GROUPS
from trainer.presets import MODELS, choose_preset
from trainer.settings_table import settings_table, shown

# The version of the file, and fields that only some objectives or runs read.
NOT_SHOWN = {"kind", "schema_version", "init_checkpoint", "clip_value", "gp_weight", "div_k", "div_p", "objective"}


def printed(model: str, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(settings_table(choose_preset(model, None, None)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows(model: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in printed(model).splitlines() if line.strip()}


@pytest.mark.parametrize("model", MODELS)
def test_every_field_of_the_config_is_shown_with_its_value(model: str) -> None:
    config, table = choose_preset(model, None, None), rows(model)
    names = {path: f"--{name.replace('_', '-')}" for name, path in FIELDS.items()}
    for field, value in msgspec.to_builtins(config).items():
        name = names.get(field, field if f"--{field}" not in table else f"--{field}")
        if name in table and not isinstance(value, dict | list | tuple):
            assert table[name][0] == shown(value).split()[0]
        elif value is not None and not isinstance(value, dict | list | tuple):
            assert field in NOT_SHOWN, field


def test_the_value_is_that_of_the_preset_and_the_meaning_that_of_the_help() -> None:
    table = rows("wgan-gp")
    assert table["--gp-weight"][0] == "10"
    assert table["--n-critic"][0] == "1"
    help_of = {flag["names"][0]: flag["help"] for flags in GROUPS.values() for flag in flags}
    assert " ".join(table["--gp-weight"][1:]) == help_of["--gp-weight"]


def test_flags_of_other_models_are_left_out() -> None:
    assert "--clip-value" not in rows("wgan-gp")
    assert "--cycle-weight" not in rows("wgan-gp")
    assert "--ema-decay" not in rows("cyclegan")


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_wider_than_80_columns(model: str) -> None:
    assert max(map(len, printed(model, 80).splitlines())) <= 80


@pytest.mark.parametrize(
    ("value", "text"), [(True, "on"), (False, "off"), (0.0002, "0.0002"), ("", "-"), ([], "none"), (["a", "b"], "a,b")]
)
def test_values_are_shown_as_flags_take_them(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(("width", "value"), [(None, "32"), (24, "32x24")])
def test_the_size_is_one_value_as_the_flag_takes_it(width: int | None, value: str) -> None:
    config = override(choose_preset("dcgan", None, None), {"network.image_width": width})
    console = Console(file=io.StringIO(), width=200)
    console.print(settings_table(config))
    assert isinstance(console.file, io.StringIO)
    shown_rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert [row[1] for row in shown_rows if row and row[0] == "--image-size"] == [value]
    assert not any(row and "image_width" in row[0] for row in shown_rows)

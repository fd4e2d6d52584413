from __future__ import annotations

import msgspec
import pytest
import rich_click as click
from click.testing import CliRunner
from click.types import FloatParamType, IntParamType

from trainer.__main__ import main
from trainer.command import _RESUME_FLAGS
from trainer.flags import FIELDS, GROUPS, MODELS
from trainer.presets import MODELS as PRESET_MODELS
from trainer.presets import PRESETS

OPTIONS = {option.name: option for option in main.params if isinstance(option, click.Option) and option.name}
OPTIONS.pop("version")  # prints and exits


def test_every_flag_is_in_exactly_one_group_and_explained() -> None:
    grouped = [flag["names"] for flags in GROUPS.values() for flag in flags]
    assert len(grouped) == len(set(grouped)) == len(OPTIONS)
    for option in OPTIONS.values():
        assert option.help, option.name
        assert option.help.rstrip("]").endswith((".", "runs")), option.help


@pytest.mark.parametrize("name", FIELDS)
def test_each_flag_in_fields_exists_and_some_preset_has_its_field(name: str) -> None:
    assert name in OPTIONS
    table, _, field = FIELDS[name].rpartition(".")
    configs = [msgspec.to_builtins(preset.config) for preset in PRESETS.values()]
    if table == "betas":
        assert int(field) < len(configs[0]["betas"])
    else:
        assert any(field in ((config.get(table) or {}) if table else config) for config in configs)


def test_flags_that_resume_allows_exist() -> None:
    assert set(_RESUME_FLAGS) <= OPTIONS.keys()


def test_the_models_in_the_help_are_those_of_the_presets() -> None:
    assert MODELS == PRESET_MODELS
    assert all(model in str(OPTIONS["model"].help) for model in MODELS)


def test_flags_that_are_not_given_have_no_value() -> None:
    values = main.make_context("trainer", []).params
    assert {name for name in OPTIONS if values[name] not in (None, ())} == set()


NUMBERS = [name for name in FIELDS if isinstance(OPTIONS[name].type, IntParamType | FloatParamType)]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_range_is_an_error_that_names_the_flag_that_was_given(name: str) -> None:
    tried = []
    for model in MODELS:
        result = CliRunner().invoke(main, ["--model", model, OPTIONS[name].opts[0], "-1000000", "--dry-run"])
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        tried.append(result.stderr)
    assert all(error.startswith(f"Error: {OPTIONS[name].opts[0]}: ") for error in tried), tried
    assert any("expected `" in error for error in tried)

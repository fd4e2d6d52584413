"""Flags from the environment and from a file. Parametrised over all options, so that a new flag is tested too."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from server.__main__ import main, tune
from server.config import ServerConfig
from server.flag_sources import as_toml, misspelt_variables, read_file, settings_of, variable_of

COMMANDS = {"server": main, "tune": tune}
ALL = [
    pytest.param(command, option, id=f"{name} --{key}")
    for name, command in COMMANDS.items()
    for key, option in settings_of(command).items()
]


def other_value(option: click.Option) -> Any:
    """A valid value that is not the default, as a file holds it."""
    kind = option.type
    if option.is_flag:
        value: Any = True
    elif isinstance(kind, click.Choice):
        value = next(str(choice) for choice in reversed(kind.choices) if choice != option.default)
    elif isinstance(kind, click.types.FloatParamType):
        value = float(getattr(kind, "min", 0) or 0) + 0.5
    elif isinstance(kind, click.types.IntParamType):
        value = (getattr(kind, "min", None) or 0) + 1
    elif isinstance(kind, click.types.StringParamType | click.Path):
        value = "elsewhere"
    else:
        by_name = {"host:port": "127.0.0.2:7", "host:port|none": "none", "indices": "0,1", "folder|url": "elsewhere"}
        value = by_name.get(kind.name) or str(option.default)
    return [value] if option.multiple else value


def value_in(command: click.Command, option: click.Option, arguments: list[str]) -> Any:
    return command.make_context("it", arguments, **command.context_settings).params[option.name or ""]


def on_the_command_line(option: click.Option) -> list[str]:
    value = other_value(option)
    if option.is_flag:
        return [option.opts[0]]
    return [option.opts[0], str(value[0] if option.multiple else value)]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in COMMANDS.values():
        for option in command.params:
            monkeypatch.delenv(variable_of(option), raising=False)


def written(folder: Path, **settings: Any) -> str:
    path = folder / "ganserve.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
    return str(path)


@pytest.mark.parametrize(("command", "option"), ALL)
def test_a_variable_and_a_key_of_the_file_have_the_effect_of_the_flag(
    command: click.Command, option: click.Option, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = value_in(command, option, [])
    expected = value_in(command, option, on_the_command_line(option))
    assert expected != default
    for key in (option.opts[0][2:], option.opts[0][2:].replace("-", "_")):
        assert value_in(command, option, ["--config", written(tmp_path, **{key: other_value(option)})]) == expected
    value = other_value(option)
    monkeypatch.setenv(variable_of(option), str(value[0] if option.multiple else value))
    assert value_in(command, option, []) == expected


@pytest.mark.parametrize(("command", "option"), ALL)
def test_a_value_of_the_wrong_type_names_file_key_and_remedy(
    command: click.Command, option: click.Option, tmp_path: Path
) -> None:
    key = option.opts[0][2:]
    of_another_type = "3" if isinstance(other_value(option), str | list | bool) else '"many"'
    for wrong in ("{a = 1}", "[[]]", of_another_type):
        path = tmp_path / "ganserve.toml"
        path.write_text(f"{key} = {wrong}\n")
        result = CliRunner().invoke(command, ["--config", str(path)])
        assert result.exit_code == 2
        assert result.stderr.startswith(f"Error: --config {path}: {key}: ")
        assert f"does not fit; write {key} = " in result.stderr
        assert result.stderr.count("\n") == 1


NUMBERS = [each for each in ALL if isinstance(each.values[1].type, click.types.FloatParamType)]  # type: ignore[union-attr]


@pytest.mark.parametrize(("command", "option"), NUMBERS)
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_no_number_may_be_nan_or_infinite(command: click.Command, option: click.Option, number: str) -> None:
    result = CliRunner().invoke(command, [option.opts[0], number])
    assert result.exit_code == 2
    assert f"'{option.opts[0]}'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_flag_goes_before_the_variable_before_the_file_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = settings_of(main)["engines"]
    assert value_in(main, option, []) is None
    from_file = ["--config", written(tmp_path, engines=2)]
    assert value_in(main, option, from_file) == 2
    monkeypatch.setenv("GANSERVE_ENGINES", "3")
    assert value_in(main, option, from_file) == 3
    assert value_in(main, option, [*from_file, "--engines", "4"]) == 4


def test_the_file_itself_can_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANSERVE_CONFIG", written(tmp_path, engines=5))
    assert value_in(main, settings_of(main)["engines"], []) == 5


def test_a_wrong_value_names_the_flag_and_where_it_comes_from(tmp_path: Path) -> None:
    from_variable = CliRunner().invoke(main, [], env={"GANSERVE_MAX_BATCH_SIZE": "many"})
    assert from_variable.stderr.startswith(
        "Error: Invalid value for '--max-batch-size' (env var: 'GANSERVE_MAX_BATCH_SIZE'): 'many' is not"
    )
    path = written(tmp_path, max_batch_size=0)
    from_file = CliRunner().invoke(main, ["--config", path])
    assert from_file.stderr.startswith(
        f"Error: Invalid value for '--max-batch-size' (key 'max-batch-size' in {path}): 0 is not in the range"
    )
    assert (from_variable.exit_code, from_file.exit_code) == (2, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"max-batchsize = 1", "max-batchsize: no such setting; did you mean max-batch-size?"),
        (b"zzzzz = 1", "zzzzz: no such setting; the keys are the names of the flags in --help"),
        (b"config = 'other.toml'", "config: no such setting"),
        (b"seconds = 1", "seconds: no such setting"),  # a flag of tune
        (b"engines = 1\nengines = 2", "not TOML (Cannot overwrite a value"),
        (b"max-queue-rows = 1\nmax_queue_rows = 2", "max_queue_rows: given twice"),
        (b"engines", "not TOML (Expected '=' after a key"),
        (b"\xff", "not TOML ('utf-8' codec can't decode"),
        (b"engines = 2.0", "engines: the value does not fit; write engines = an integer"),
        (b"engines = true", "engines: the value does not fit"),
        (b"drain-timeout-s = 2024-01-01", "drain-timeout-s: the value does not fit"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_its_key(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "ganserve.toml"
    path.write_bytes(content)
    result = CliRunner().invoke(main, ["--config", str(path)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: --config {path}: {message}")
    assert result.stderr.count("\n") == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=r"nowhere.toml: cannot be read \(No such file"):
        read_file(tmp_path / "nowhere.toml", {})


def test_tune_reads_the_file_of_the_server_and_ignores_what_it_does_not_need(tmp_path: Path) -> None:
    path = written(tmp_path, models="elsewhere", engines=3, seconds=7)
    result = CliRunner().invoke(main, ["tune", "--config", path, "--show-config"])
    assert result.exit_code == 0, result.output
    shown = tomllib.loads(result.stdout)
    assert (shown["models"], shown["seconds"], "engines" in shown) == ("elsewhere", 7.0, False)


def test_variables_of_the_server_do_not_stop_tune(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANSERVE_ENGINES", "3")
    monkeypatch.setenv("GANSERVE_MODEL", "dcgan wgan")
    result = CliRunner().invoke(main, ["tune", "--show-config"])
    assert result.exit_code == 0, result.output
    assert tomllib.loads(result.stdout)["model"] == ["dcgan", "wgan"]


@pytest.mark.parametrize("flag", [["--engines", "2"], ["--config", "x.toml"], ["--cuda-graphs"]])
def test_flags_of_the_server_before_tune_are_refused(flag: list[str], tmp_path: Path) -> None:
    if "--config" in flag:
        flag = ["--config", written(tmp_path)]
    result = CliRunner().invoke(main, [*flag, "tune"])
    assert result.exit_code == 2
    assert result.stderr == (f"Error: {flag[0]} is a flag of the server; write the flags of tune after its name\n")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_printed_settings_are_a_file_with_the_same_effect(command: click.Command, tmp_path: Path) -> None:
    options = settings_of(command)
    arguments = [word for option in options.values() for word in on_the_command_line(option)]
    arguments += ["--models", 'odd "quoted" \\ ü\x7f\n name']
    before = command.make_context("it", arguments, **command.context_settings)
    path = tmp_path / "saved.toml"
    path.write_text(as_toml(before))
    assert tomllib.loads(path.read_text()).keys() == options.keys()
    after = command.make_context("it", ["--config", str(path)], **command.context_settings)
    assert after.params == before.params


def test_settings_without_a_value_are_comments() -> None:
    result = CliRunner().invoke(main, ["--show-config"])
    assert "# engines is not set\n" in result.stdout
    shown = tomllib.loads(result.stdout)
    assert shown["drain-timeout-s"] == ServerConfig().drain_timeout_s
    assert not any(isinstance(value, float) and math.isnan(value) for value in shown.values())


@pytest.mark.parametrize("variable", ["GANSERVE_VERSION", "GANSERVE_SHOW_CONFIG"])
def test_variables_of_others_do_not_print_and_exit(variable: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--models", str(tmp_path / "nowhere")], env={variable: "1"})
    assert (result.exit_code, result.stdout) == (2, "")


def test_the_help_explains_the_sources_once() -> None:
    text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    assert text.count("GANSERVE_") == 1
    assert "A flag goes before the variable, and that before the file." in text


def test_a_misspelt_variable_is_told_from_a_setting_and_from_those_of_other_programs() -> None:
    names = ["GANSERVE_MAX_BATCH_SIEZ", "GANSERVE_MAX_BATCH_SIZE", "GANSERVE_TIMEOUT_S", "MAX_BATCH_SIZE"]
    assert misspelt_variables(main, names) == {"GANSERVE_MAX_BATCH_SIEZ": "GANSERVE_MAX_BATCH_SIZE"}

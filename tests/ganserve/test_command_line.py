"""Usage errors, numbers and --version of every command line."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner

from client.__main__ import cli as ganclient
from exporter.__main__ import main as exporter
from ganserve.command_line import OneLineErrors, fail, versions
from server.__main__ import main as server
from server.__main__ import tune
from trainer.__main__ import main as trainer
from trainer.evaluate.__main__ import main as evaluate
from trainer.report.__main__ import main as report
from trainer.sweep.__main__ import main as sweep

COMMANDS: dict[str, click.Command] = {
    "server": server,
    "server tune": tune,
    "trainer": trainer,
    "trainer.evaluate": evaluate,
    "trainer.report": report,
    "trainer.sweep": sweep,
    "exporter": exporter,
    "ganclient": ganclient,
}
ALL = [pytest.param(command, id=name) for name, command in COMMANDS.items()]


def all_commands() -> dict[str, click.Command]:
    found = dict(COMMANDS)
    assert isinstance(ganclient, click.Group)
    return found | {f"ganclient {name}": command for name, command in ganclient.commands.items()}


FLOATS = [
    pytest.param(name, option.opts[0], option.nargs, id=f"{name} {option.opts[0]}")
    for name, command in all_commands().items()
    for option in command.params
    if isinstance(option, click.Option)
    and (
        isinstance(option.type, click.types.FloatParamType)
        or any(isinstance(part, click.types.FloatParamType) for part in getattr(option.type, "types", ()))
        or "number_of" in repr(getattr(option.type, "func", ""))
    )
]


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("arguments", [["--no-such-flag"], ["a", "b", "c", "--x"]])
def test_a_usage_error_is_one_line_with_exit_code_2(command: click.Command, arguments: list[str]) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_there_are_flags_with_fractions_in_every_stage() -> None:
    names = {str(each.values[0]).partition(" ")[0] for each in FLOATS}
    assert names == {"server", "trainer", "exporter", "ganclient"}


@pytest.mark.parametrize(("name", "flag", "nargs"), FLOATS)
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_no_command_takes_nan_or_infinity(name: str, flag: str, nargs: int, number: str) -> None:
    command = ganclient if name.startswith("ganclient") else COMMANDS[name]
    result = CliRunner().invoke(command, [*name.split()[1:2], flag, *[number] * nargs][name == "server tune" :])
    assert result.exit_code == 2
    assert flag in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ALL)
def test_version_prints_the_versions_and_exits(command: click.Command) -> None:
    result = CliRunner().invoke(command, ["--version"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"ganserve {version('ganserve')}, Python {sys.version.split()[0]}, ")
    assert result.stdout.count("\n") == 1
    assert "unknown" not in result.stdout
    assert "--version" in CliRunner().invoke(command, ["--help"]).stdout


@pytest.mark.parametrize("command", [exporter, evaluate])
def test_a_version_that_selects_a_model_still_takes_a_number(command: click.Command) -> None:
    assert command.make_context("it", ["run", "--version", "3"]).params["version"] == 3
    assert command.make_context("it", ["run", "--version=3"]).params["version"] == 3
    assert command.make_context("it", ["run"]).params["version"] is None
    for wrong in ("0", "run"):
        result = CliRunner().invoke(command, ["--version", wrong])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "'--version'" in result.stderr


@pytest.mark.parametrize("stage", ["server", "trainer", "exporter", "client"])
def test_printing_the_version_imports_no_runtime(stage: str) -> None:
    program = (
        f"import sys, runpy\nsys.argv = ['it', '--version']\n"
        f"try: runpy.run_module('{stage}', run_name='__main__')\nexcept SystemExit as error: assert error.code == 0\n"
        "assert not {'torch', 'onnxruntime', 'onnx'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=120)


def test_of_a_tuple_of_packages_the_installed_one_counts() -> None:
    assert versions(("no-such-package", "numpy")).endswith(f", numpy {version('numpy')}")


def test_help_of_a_group_without_a_command_is_not_an_error() -> None:
    @click.group(cls=type("Group", (OneLineErrors, click.Group), {}))
    def group() -> None: ...

    group.add_command(click.Command("go"))
    result = CliRunner().invoke(group, [])
    assert "Commands:" in result.output
    assert "Error" not in result.output


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(click.IntRange(1, 9), "'x' is not a valid integer."), (click.FloatRange(0, 1), "'x' is not a valid number.")],
)
def test_a_text_as_number_is_refused_in_plain_words(kind: click.ParamType[object], reason: str) -> None:
    command = OneLineErrors("it", params=[click.Option(["--n"], type=kind)])
    result = CliRunner().invoke(command, ["--n", "x"])
    assert (result.exit_code, result.stderr) == (2, f"Error: Invalid value for '--n': {reason}\n")


def test_fail_prints_one_line_and_exits_with_the_given_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        fail("no\n  space", 3)
    assert exit_.value.code == 3
    assert capsys.readouterr() == ("", "Error: no space\n")

"""The entry point: help, and usage errors that need no torch."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest
from click.testing import CliRunner

from trainer.__main__ import main
from trainer.flags import GROUPS
from trainer.presets import PRESETS


def help_page(columns: int) -> str:
    return CliRunner().invoke(main, ["--help"], env={"COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)}).output


def test_help_fits_80_columns_and_lists_the_groups_in_order() -> None:
    page = help_page(80)
    assert max(len(line) for line in page.splitlines()) <= 80
    headings = [line.rstrip() for line in page.splitlines() if line and line.rstrip().endswith(":") and line[0] != " "]
    assert headings == [f"{group}:" for group in (*GROUPS, "Help")]


def test_piped_help_is_plain_text() -> None:
    page = help_page(80)
    assert page.isascii()
    assert "\x1b" not in page


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["--no-such-flag"], 2)])
def test_help_and_usage_errors_do_not_import_torch(arguments: list[str], code: int) -> None:
    program = (
        "import sys\nfrom trainer.__main__ import main\n"
        f"try: main({arguments})\nexcept SystemExit as error: assert error.code == {code}\n"
        "assert not {'torch', 'numpy', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=200)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-such-flag"], "Error: No such option '--no-such-flag'"),
        (["--batch-size", "many"], "Error: Invalid value for '--batch-size': 'many' is not a valid integer."),
        (["--domains", "ink"], "Error: Option '--domains' requires 2 arguments."),
        (["dcgan"], "Error: Got unexpected extra argument"),
    ],
)
def test_a_flag_that_cannot_be_parsed_is_one_line_and_exits_with_2(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_list_presets_prints_every_preset_with_its_data_and_length() -> None:
    result = CliRunner().invoke(main, ["--list-presets"])
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["model", "preset", "made", "for", "network", "image", "batch", "length"]
    for model, preset in PRESETS:
        assert any(preset in row for row in rows), preset
        assert sum(line.startswith(f"{model} ") for line in result.stdout.splitlines()) == 1
    (row,) = (line for line in result.stdout.splitlines() if " dcgan64-k4 " in line)
    assert all(text in row for text in ("any images", "dcgan-k4: the PyTorch tutorial's", "64x64", "128", "50 epochs"))


def test_ctrl_c_during_the_import_of_torch_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "trainer.command", Interrupted("trainer.command"))
    result = CliRunner().invoke(main, ["--model", "dcgan"])
    assert result.exit_code == 130
    assert result.stderr == "Error: interrupted before training began; no run was created\n"

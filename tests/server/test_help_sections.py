from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from server.__main__ import main
from server.help_sections import GENERAL, SECTIONS, SectionedHelp


def test_every_flag_of_the_server_has_one_section() -> None:
    named = [name for names in SECTIONS.values() for name in names]
    assert sorted(named) == sorted(str(param.name) for param in main.params)


@pytest.mark.parametrize("width", [80, 120])
def test_the_sections_stand_in_their_order_before_the_commands(width: int) -> None:
    lines = CliRunner().invoke(main, ["--help"], terminal_width=width).output.splitlines()
    headings = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == [*SECTIONS, "Commands"]
    assert max(map(len, lines)) <= width
    assert "RANGE" not in "".join(lines)
    assert "<=x" not in "".join(lines)


def test_a_flag_without_a_section_is_general_and_a_hidden_one_is_left_out() -> None:
    shown = click.Option(["--new"], help="A flag.")
    hidden = click.Option(["--old"], hidden=True)
    text = CliRunner().invoke(SectionedHelp("it", params=[shown, hidden]), ["--help"]).output
    assert f"{GENERAL}:\n  --new TEXT  A flag.\n  --help      Show this message and exit.\n" in text
    assert "--old" not in text

from __future__ import annotations

import pytest

from client.__main__ import cli
from scripts.ganclient_page import PAGE, page


def test_the_page_matches_the_help_of_the_commands() -> None:
    assert PAGE.read_text() == page(), "run make pages"


@pytest.mark.parametrize("name", cli.commands)
def test_the_page_has_every_command_and_flag(name: str) -> None:
    _, found, rest = page().partition(f"\n## ganclient {name}\n")
    assert found
    section = rest.partition("\n## ")[0]
    section += page().partition("\n## Connection flags\n")[2]
    for parameter in cli.commands[name].params:
        assert parameter.param_type_name == "argument" or parameter.opts[0] in section


def test_generating_the_page_does_not_change_the_commands() -> None:
    flags = {name: [*command.params] for name, command in cli.commands.items()}
    page()
    assert {name: set(command.params) for name, command in cli.commands.items()} == {
        name: set(parameters) for name, parameters in flags.items()
    }

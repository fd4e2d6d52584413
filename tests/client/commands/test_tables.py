from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.commands.tables import print_section, print_table

CELL = st.text("abc ", min_size=1).filter(lambda text: text == text.strip())


def test_a_pipe_gets_aligned_columns_without_borders(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "n"), [("a", "12"), ("longer", "")])
    assert capsys.readouterr().out == "name    n\na       12\nlonger\n"


def test_a_section_is_indented_and_its_lines_may_have_different_cell_counts(capsys: pytest.CaptureFixture[str]) -> None:
    print_section("title", [("a", "1"), ("b", "20", "more"), ("c",)])
    print_section("nothing", [])
    assert capsys.readouterr().out == "title\n  a  1\n  b  20  more\n  c\nnothing\n"


@given(st.lists(st.tuples(CELL, CELL), min_size=1))
def test_every_cell_starts_at_its_column(lines: list[tuple[str, str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("click.echo", printed.append)
        print_table(("head", "head"), lines)
    place = max(len("head"), *(len(line[0]) for line in lines)) + 2
    assert [(text[:place].strip(), text[place:]) for text in printed[1:]] == lines

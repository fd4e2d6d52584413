from __future__ import annotations

import pytest

from client import ServerFault
from client.errors import invalid_response, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [("two\nlines\tand  blanks", "two lines and blanks"), ("\x1b[31mred", "?[31mred"), ("größe", "größe")],
)
def test_one_line_has_no_control_characters(text: str, line: str) -> None:
    assert one_line(text) == line


def test_an_invalid_response_says_what_is_wrong_on_one_line() -> None:
    error = invalid_response("no\nimages")
    assert type(error) is ServerFault
    assert str(error).startswith("the server's response is invalid: no images; ")

"""Tests for server.rest.parameter."""

from __future__ import annotations

import pytest

from server.errors import InvalidRequest
from server.rest.parameter import Parameter

COUNT = Parameter("n", "Number.", "integer", 64, 1, 100)
FLAG = Parameter("resize", "Whether.", "boolean", default=True)
NAME = Parameter("model", "Name.")


@pytest.mark.parametrize(
    ("parameter", "text", "value"), [(COUNT, "1", 1), (COUNT, "100", 100), (FLAG, "false", False), (NAME, "x y", "x y")]
)
def test_a_text_becomes_a_value(parameter: Parameter, text: str, value: object) -> None:
    assert parameter.parse(text) == value


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        *[(COUNT, text) for text in ("0", "101", "-1", "1.5", "", "\N{ARABIC-INDIC DIGIT ONE}", "9" * 5000)],
        *[(FLAG, text) for text in ("1", "True", "")],
    ],
)
def test_another_text_is_refused_with_what_to_send(parameter: Parameter, text: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{parameter.name} is '.*': send "):
        parameter.parse(text)


def test_the_schema_holds_range_and_default() -> None:
    assert COUNT.schema() == {"type": "integer", "minimum": 1, "maximum": 100, "default": 64}
    assert NAME.schema() == {"type": "string", "minLength": 1}

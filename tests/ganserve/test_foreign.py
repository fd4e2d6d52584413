from __future__ import annotations

import numpy as np
import pytest

from ganserve.foreign import first_line, version_of


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (ValueError("\n  \n  one  \ntwo"), "ValueError: one"),
        (RuntimeError(), "RuntimeError"),
        (KeyError("a"), "KeyError: 'a'"),
    ],
)
def test_an_error_is_its_class_and_its_first_line_with_text(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_a_long_line_is_cut() -> None:
    line = first_line(ValueError("x" * 1000))
    assert len(line) == 200
    assert line.startswith("ValueError: xxx")


def test_the_version_is_that_of_the_first_package_that_is_installed() -> None:
    assert version_of("no-such-package", "numpy", "pillow") == np.__version__
    assert version_of("no-such-package") == "unknown"

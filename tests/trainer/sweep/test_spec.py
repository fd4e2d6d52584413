"""Specs: strict files, and settings from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.sweep.conftest import TINY, WriteSpec
from trainer.errors import UserError
from trainer.sweep.spec import MAX_SPEC_BYTES, quick_form, read_spec, with_settings

QUICK = """
[quick]
seeds = [7]
show_at_epochs = [1]
base = { epochs = 1, width = 0.1 }
axes = { lr = [0.5] }
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "invalid"),
        ("seeds = [1]\n[base]", "missing required field `title`"),
        (TINY.replace("seeds = [0, 1]", "seeds = []"), "`$.seeds`"),
        (TINY.replace("seeds = [0, 1]", "seeds = [-1]"), "`$.seeds[0]`"),
        (TINY.replace("seeds = [0, 1]", "sedes = [0]"), "unknown field `sedes`"),
        (TINY.replace('model = "gan"', "model = { a = 1 }"), "`$.base[...]`"),
        (TINY.replace("lr = [1e-4, 1e-3]", "lr = 3"), "`$.axes[...]`"),
        ("is_quick = true\n" + TINY, "is_quick"),
        ("x = " + "[" * 5000, ""),
    ],
)
def test_an_invalid_file_is_refused_in_one_line(text: str, message: str, spec_file: WriteSpec) -> None:
    path = spec_file(text)
    with pytest.raises(UserError) as caught:
        read_spec(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_huge_file_is_refused(tmp_path: Path, spec_file: WriteSpec) -> None:
    with pytest.raises(UserError, match="not readable"):
        read_spec(tmp_path / "none.toml")
    with pytest.raises(UserError, match="larger than"):
        read_spec(spec_file("#" * (MAX_SPEC_BYTES + 1)))


def test_the_quick_form_replaces_seeds_moments_axes_and_the_length_in_another_unit(spec_file: WriteSpec) -> None:
    spec = read_spec(spec_file(TINY + QUICK))
    quick = quick_form(spec)
    assert (quick.seeds, quick.show_at_epochs, quick.show_at_steps) == ([7], [1], [2])
    assert quick.axes == {"lr": [0.5]}
    assert (quick.base["epochs"], quick.base["width"], quick.base["batch_size"]) == (1, 0.1, 16)
    assert "steps" not in quick.base
    assert quick.is_quick
    assert not spec.is_quick


def test_a_missing_quick_form_or_unknown_axis_is_refused(spec_file: WriteSpec) -> None:
    with pytest.raises(UserError, match="--quick"):
        quick_form(read_spec(spec_file()))
    with pytest.raises(UserError, match=r"quick\.axes\.size"):
        quick_form(read_spec(spec_file(TINY + "[quick]\naxes = { size = [1] }\n")))


def test_a_setting_that_an_axis_varies_is_refused(spec_file: WriteSpec) -> None:
    spec = read_spec(spec_file(TINY + "[axes.size]\nsmall = { image_size = 32 }\n"))
    assert with_settings(spec, {"epochs": 3}).base["epochs"] == 3
    for name in ("lr", "image_size"):
        with pytest.raises(UserError, match=f"--set {name}: the axis"):
            with_settings(spec, {name: 1})

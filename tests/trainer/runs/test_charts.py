"""Charts: thinned curves, running means, and text that matplotlib must not interpret."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from trainer.runs import charts
from trainer.runs.charts import MAX_POINTS, Curve, plain, thinned


def test_thinning_keeps_the_mean_and_the_ends() -> None:
    values = np.random.default_rng(0).normal(size=MAX_POINTS * 10)
    steps, thin = thinned(Curve(np.arange(MAX_POINTS * 10, dtype=float), values))
    assert len(thin) == MAX_POINTS
    assert thin.mean() == pytest.approx(values.mean())
    assert thin[0] == pytest.approx(values[:10].mean())
    assert steps[-1] == pytest.approx(MAX_POINTS * 10 - 5.5)
    few = Curve(np.arange(3.0), np.arange(3.0))
    assert thinned(few) == (few.steps, few.values)


def test_the_running_mean_covers_a_share_of_the_points() -> None:
    smooth = charts._running_mean(np.arange(100.0))
    assert len(smooth) == 97
    assert smooth[0] == pytest.approx(1.5)
    assert charts._running_mean(np.arange(3.0)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "shown"), [("a$b", r"a\$b"), ("_hidden", "hidden"), ("\\frac", "/frac"), ("a\nb", "a?b"), ("", "-")]
)
def test_text_is_shown_literally(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_metric_is_drawn_as_the_mean_over_seeds_with_a_band_for_their_range() -> None:
    steps = np.array([1.0, 2.0])
    seeds = [Curve(steps, np.array([1.0, 3.0])), Curve(steps, np.array([3.0, 5.0]))]
    (axes,) = charts.metric_chart({"a": seeds, "empty": []}, y_label="SWD").axes
    (line,) = axes.lines
    assert np.asarray(line.get_ydata()).tolist() == [2, 4]
    assert len(axes.collections) == 1


def test_svg_is_well_formed_names_the_lines_and_is_the_same_each_time() -> None:
    def drawn() -> bytes:
        curve = Curve(np.arange(5.0), np.arange(5.0))
        return charts.svg(charts.step_chart({"Generator $": [curve]}, y_label="loss"))

    assert drawn() == drawn()
    assert ET.fromstring(drawn()).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"Generator $" in drawn()

"""Charts: thinned curves, running means, and text that matplotlib must not interpret."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from tests.trainer.conftest import small_config
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


def test_references_are_level_lines_and_a_single_seed_has_its_standard_errors() -> None:
    curve = Curve(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([0.5, 0.25]))
    (axes,) = charts.metric_chart({"a": [curve]}, y_label="SWD", references={"real images": 2.5}).axes
    *_, level = axes.lines
    assert (level.get_label(), np.asarray(level.get_ydata()).tolist()) == ("real images", [2.5, 2.5])
    (bars,) = axes.collections
    assert [np.asarray(path.vertices)[:, 1].tolist() for path in bars.get_paths()] == [[2.0, 4.0], [3.5, 4.5]]


@pytest.mark.parametrize("points", [1, 2])
def test_short_curves_are_seen(points: int) -> None:
    curve = Curve(np.arange(float(points)), np.arange(float(points)))
    (axes,) = charts.step_chart({"a": [curve]}, y_label="loss").axes
    assert "o" in [line.get_marker() for line in axes.lines]


def test_a_critic_has_scores_and_the_estimate_of_the_distance() -> None:
    gan, hinge, critic = (
        charts.scores(small_config(model, f"{model}-digits", **more))
        for model, more in (("gan", {"objective": "nonsaturating"}), ("gan", {"objective": "hinge"}), ("wgan", {}))
    )
    assert gan.title == "Confidence of the discriminator"
    assert hinge.title == "Scores of the discriminator"
    assert (critic.title, critic.y_label) == ("Critic score", "critic score")
    assert len(gan.keys) == len(hinge.keys) == 2
    assert critic.keys["estimate, D(x) - D(G(z))"] == charts.SCORE_DIFFERENCE


def test_a_difference_is_taken_at_the_common_steps() -> None:
    one, other = Curve(np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 7.0])), Curve(np.array([2.0]), np.array([1.0]))
    found = charts.difference(one, other)
    assert (found.steps.tolist(), found.values.tolist()) == ([2.0], [5.0])


def test_svg_is_well_formed_names_the_lines_and_is_the_same_each_time() -> None:
    def drawn() -> bytes:
        curve = Curve(np.arange(5.0), np.arange(5.0))
        return charts.svg(charts.step_chart({"Generator $": [curve]}, y_label="loss"))

    assert drawn() == drawn()
    assert ET.fromstring(drawn()).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"Generator $" in drawn()

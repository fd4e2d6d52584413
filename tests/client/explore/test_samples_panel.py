from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from client.explore import explorer as explorer_module
from client.explore.directions import MAX_DIRECTIONS, Directions
from client.explore.tab import MAX_DIMENSIONS, Tab
from ganserve.latents import latents_from_seed
from tests.client.explore.conftest import NO_GRADIO, PanelPage, pictures_of
from tests.client.fake_server import pixels_of

panels = pytest.importorskip("client.explore.samples_panel", reason=NO_GRADIO)

LATENTS = latents_from_seed(7, 4, 6)
IMAGES = pixels_of(LATENTS, 4, 3, 1)[..., 0]
AT_REST = [0.0] * (MAX_DIMENSIONS + MAX_DIRECTIONS)


@pytest.fixture
def panel(page: PanelPage) -> PanelPage:
    page.add(panels.SamplesPanel, page.pick, page.tab)
    return page


def sampled(panel: PanelPage, dimensions: str = "5, 1") -> dict[str, Any]:
    return panel.trigger("sample", "click", "dcgan:3", " 7 ", 4.0, dimensions)


def labels_of(shown: dict[str, Any], name: str) -> list[str]:
    """The labels of the sliders that are visible."""
    return [value["label"] for key, value in shown.items() if key.startswith(f"{name}-") and value.get("visible")]


def test_samples_are_those_of_the_seed_and_the_first_is_the_anchor(panel: PanelPage) -> None:
    assert panel.inputs("sample", "click") == ["model", "seed", "count", "dimensions"]
    shown = sampled(panel)
    np.testing.assert_array_equal(pictures_of(shown["samples"]), IMAGES)
    np.testing.assert_array_equal(pictures_of(shown["picture"]), IMAGES[:1])
    assert "ganclient grid --model dcgan --version 3 --n 4 --seed 7 --columns" in shown["samples"]
    assert shown["banner"] == ""
    tab = shown["State"]
    assert (tab.key, tab.seed, tab.count, tab.row, tab.dimensions) == ("dcgan:3", 7, 4, 0, (5, 1))
    np.testing.assert_array_equal(tab.anchor, LATENTS[0])
    np.testing.assert_array_equal(tab.ends, LATENTS[:2])
    assert labels_of(shown, "dimension") == ["dimension 5", "dimension 1"]
    assert labels_of(shown, "direction") == []


def test_a_sample_that_is_clicked_becomes_the_anchor(panel: PanelPage) -> None:
    tab = sampled(panel)["State"]
    shown = panel.trigger("samples", "select", tab, extra=[SimpleNamespace(row=2)])
    np.testing.assert_array_equal(shown["State"].anchor, LATENTS[2])
    np.testing.assert_array_equal(pictures_of(shown["picture"]), IMAGES[2:3])
    assert shown["dimension-1"]["value"] == pytest.approx(LATENTS[2, 5], abs=0.005)
    assert "sample: must be" in panel.complaint("samples", "select", tab, extra=[SimpleNamespace(row=4)])


def test_the_sliders_move_the_anchor_and_can_be_reset(panel: PanelPage) -> None:
    tab = sampled(panel, "5")["State"]
    dimensions, directions = (
        [f"{name}-{index + 1}" for index in range(count)]
        for name, count in (("dimension", MAX_DIMENSIONS), ("direction", MAX_DIRECTIONS))
    )
    assert panel.inputs("dimension-1", "input") == ["State", *dimensions, *directions]
    latent = LATENTS[:1].copy()
    latent[0, 5] = 2.5
    shown = panel.trigger("dimension-1", "input", tab, 2.5, *AT_REST[1:])
    np.testing.assert_array_equal(pictures_of(shown["picture"]), pixels_of(latent, 4, 3, 1)[..., 0])
    np.testing.assert_array_equal(pictures_of(panel.trigger("reset", "click", tab)["picture"]), IMAGES[:1])
    assert "dimension 5: must be a number" in panel.complaint("dimension-1", "input", tab, None, *AT_REST[1:])


def test_other_dimensions_get_sliders_and_keep_the_anchor(panel: PanelPage) -> None:
    shown = panel.trigger("dimensions", "submit", sampled(panel)["State"], "3 0 4")
    assert labels_of(shown, "dimension") == ["dimension 3", "dimension 0", "dimension 4"]
    assert shown["State"].dimensions == (3, 0, 4)
    np.testing.assert_array_equal(shown["State"].anchor, LATENTS[0])


def test_directions_that_were_found_are_shown_and_known_to_the_next_samples(
    panel: PanelPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(_generate: object, _latent_dim: int, *, progress: Callable[[float], object]) -> Directions:
        progress(0.5)
        return Directions(np.eye(2, 6, dtype=np.float32), (0.75, 0.25), 0.5)

    monkeypatch.setattr(explorer_module, "strongest_directions", found)
    before = sampled(panel)
    assert "samples the generator once" in before["directions-note"]
    steps: list[float] = []
    shown = panel.trigger("find-directions", "click", before["State"], extra=[lambda done, desc: steps.append(done)])
    assert steps == [0.5]
    assert labels_of(shown, "direction") == ["direction 1 (75.0%)", "direction 2 (25.0%)"]
    assert "explains 50% of" in shown["directions-note"]
    assert labels_of(sampled(panel), "direction") == labels_of(shown, "direction")


def test_a_mistake_changes_the_banner_only(panel: PanelPage) -> None:
    for values, words in (
        (("dcgan:3", "-1", 4, "5"), "seed: must be"),
        (("dcgan:3", "7", 145, "5"), "samples: must be a whole number in 1 .. 144"),
        (("dcgan:3", "7", 4, "6"), "dimensions: must be a whole number in 0 .. 5"),
        (("a2b:5", "7", 4, "5"), "a2b:5 does not work in this tab; use the Translate tab"),
        (("gone:1", "7", 4, "5"), "gone:1 is no longer served"),
    ):
        assert words in panel.complaint("sample", "click", *values)
    assert "press Sample first" in panel.complaint("dimension-1", "input", Tab(), *AT_REST)
    assert "press Sample first" in panel.complaint("find-directions", "click", Tab())

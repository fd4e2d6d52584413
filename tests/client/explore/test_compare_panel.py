from __future__ import annotations

import re

import numpy as np
import pytest

from ganserve.grids import image_grid
from ganserve.latents import latents_from_seed
from tests.client.explore.conftest import NO_GRADIO, PanelPage, pictures_of
from tests.client.fake_server import FakeServer, model, pixels_of, translator

panels = pytest.importorskip("client.explore.compare_panel", reason=NO_GRADIO)

UNCHANGED = {"__type__": "update"}


@pytest.fixture
def panel(page: PanelPage, server: FakeServer) -> PanelPage:
    server.models = [model(), model("wgan", 1, latent_dim=2, height=5), translator()]
    page.add(panels.ComparePanel, page.pick)
    return page


def test_two_models_are_shown_side_by_side_with_samples_of_one_seed(panel: PanelPage) -> None:
    assert panel.inputs("compare", "click") == ["model", "other-model", "compare-seed", "compare-count"]
    shown = panel.trigger("compare", "click", "dcgan:3", "wgan:1", "7", 4)["pair"]
    first, second = pictures_of(shown)
    np.testing.assert_array_equal(first, np.asarray(image_grid(pixels_of(latents_from_seed(7, 4, 6), 4, 3, 1), 2)))
    np.testing.assert_array_equal(second, np.asarray(image_grid(pixels_of(latents_from_seed(7, 4, 2), 5, 3, 1), 2)))
    for name in ("dcgan --version 3", "wgan --version 1"):
        assert f"ganclient grid --model {name} --n 4 --seed 7 --columns 2" in shown


def test_each_grid_is_named_and_the_figures_of_the_cards_are_side_by_side(panel: PanelPage, server: FakeServer) -> None:
    server.cards = {"dcgan": {"training": {"steps": 9, "frechet_distance": 12.5}}, "wgan": {"training": {}}}
    shown = panel.trigger("compare", "click", "dcgan:3", "wgan:1", "7", 4)["pair"]
    assert re.findall("<h3>(.*?)</h3>", shown) == ["dcgan:3", "wgan:1"]
    assert "<td>12.5</td><td>-</td>" in shown
    assert "steps" not in shown


def test_opening_the_tab_draws_two_models_once(page: PanelPage) -> None:
    open_tab = page.add(panels.ComparePanel, page.pick).open_event["fn"]
    pair, drawn, *_ = open_tab("", "dcgan:3", "dcgan:3", "7", 4)
    assert len(pictures_of(pair)) == 2
    for key, other in (("dcgan:3", "dcgan:3"), ("dcgan:3", None)):
        assert list(open_tab(drawn, key, other, "7", 4).values()) == [UNCHANGED]


def test_a_mistake_changes_the_banner_only(panel: PanelPage) -> None:
    for values, words in (
        (("dcgan:3", None, "7", 4), "compare with: no model is picked"),
        (("dcgan:3", "a2b:5", "7", 4), "a2b:5 does not work in this tab"),
        (("dcgan:3", "wgan:1", "", 4), "seed: must be"),
        (("dcgan:3", "wgan:1", "7", None), "samples: must be"),
    ):
        assert words in panel.complaint("compare", "click", *values)

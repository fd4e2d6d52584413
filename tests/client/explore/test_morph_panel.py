from __future__ import annotations

import numpy as np
import pytest

from client.explore.directions import MAX_DIRECTIONS
from client.explore.tab import MAX_DIMENSIONS, Tab
from client.sdk import walks
from ganserve.grids import image_grid
from ganserve.latents import latents_from_seed
from tests.client.explore.conftest import NO_GRADIO, PanelPage, pictures_of
from tests.client.fake_server import pixels_of

panels = pytest.importorskip("client.explore.morph_panel", reason=NO_GRADIO)

ENDS = latents_from_seed(7, 2, 6)
TAB = Tab("dcgan:3", 7, 2, ENDS[0], ends=ENDS)
AT_REST = [0.0] * (MAX_DIMENSIONS + MAX_DIRECTIONS)


@pytest.fixture
def panel(page: PanelPage) -> PanelPage:
    page.add(panels.MorphPanel, page.tab, page.add(panels.SamplesPanel, page.pick, page.tab))
    return page


def test_a_latent_is_kept_as_a_or_b(panel: PanelPage) -> None:
    anchor = latents_from_seed(9, 1, 6)[0]
    first = Tab("dcgan:3", 9, 1, anchor)
    np.testing.assert_array_equal(panel.trigger("keep-a", "click", first, *AT_REST)["State"].ends, [anchor, anchor])
    kept = panel.trigger("keep-b", "click", Tab("dcgan:3", 9, 1, anchor, ends=ENDS), *AT_REST)["State"]
    np.testing.assert_array_equal(kept.ends, [ENDS[0], anchor])
    np.testing.assert_array_equal(ENDS, latents_from_seed(7, 2, 6))  # other events may be reading them


@pytest.mark.parametrize("way", ["spherical", "linear"])
def test_the_picture_lies_between_a_and_b(panel: PanelPage, way: str) -> None:
    between = walks.spherical if way == "spherical" else walks.linear
    assert panel.inputs("fraction", "input") == ["State", "way", "fraction"]
    for fraction in (0, 0.25, 1):
        shown = panel.trigger("fraction", "input", TAB, way, fraction)["morph"]
        expected = pixels_of(between(ENDS[0], ENDS[1], [fraction]), 4, 3, 1)[..., 0]
        np.testing.assert_array_equal(pictures_of(shown), expected)


@pytest.mark.parametrize(("way", "flags"), [("spherical", ""), ("linear", " --linear")])
def test_a_strip_leads_from_a_to_b(panel: PanelPage, way: walks.Method, flags: str) -> None:
    assert panel.inputs("make-strip", "click") == ["State", "way", "steps"]
    shown = panel.trigger("make-strip", "click", TAB, way, 5)["strip"]
    images = pixels_of(walks.walk(ENDS, 5, way), 4, 3, 1)
    [strip] = pictures_of(shown)
    np.testing.assert_array_equal(strip, np.asarray(image_grid(images, 5)))
    assert f"--steps 5{flags} --out" in shown


def test_a_and_b_are_shown_and_the_strip_of_others_goes(page: PanelPage) -> None:
    panel = page.add(panels.MorphPanel, page.tab, page.add(panels.SamplesPanel, page.pick, page.tab))
    ends, strip, shown, *_ = panel.ends_event["fn"](TAB, 3)
    np.testing.assert_array_equal(pictures_of(ends), pixels_of(ENDS, 4, 3, 1)[..., 0])
    assert (strip, shown) == ("", 4)  # the change of the number then asks for the picture between


def test_a_mistake_changes_the_banner_only(panel: PanelPage) -> None:
    assert "press Sample in the Explore tab first" in panel.complaint("fraction", "input", Tab("dcgan:3"), "linear", 0)
    assert "steps: must be a whole number in 2 .. 64" in panel.complaint("make-strip", "click", TAB, "linear", 65)
    assert "from A to B: must be a number" in panel.complaint("fraction", "input", TAB, "linear", None)

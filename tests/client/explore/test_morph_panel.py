from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageSequence

from client.explore.directions import MAX_DIRECTIONS
from client.explore.tab import MAX_DIMENSIONS, Tab
from client.sdk import walks
from ganserve.grids import image_grid
from ganserve.latents import latents_from_seed
from tests.client.explore.conftest import NO_GRADIO, PanelPage, pictures_of
from tests.client.fake_server import pixels_of

panels = pytest.importorskip("client.explore.morph_panel", reason=NO_GRADIO)

LATENTS = latents_from_seed(7, 3, 6)
ENDS = LATENTS[:2]
TAB = Tab("dcgan:3", 7, LATENTS, anchor=ENDS[0], ends=ENDS)
AT_REST = [0.0] * (MAX_DIMENSIONS + MAX_DIRECTIONS)


@pytest.fixture
def panel(page: PanelPage) -> PanelPage:
    page.add(panels.MorphPanel, page.tab, page.add(panels.SamplesPanel, page.pick, page.tab))
    return page


def test_a_latent_is_kept_as_a_or_b(panel: PanelPage) -> None:
    anchor = latents_from_seed(9, 1, 6)[0]
    first = Tab("dcgan:3", 9, anchor=anchor)
    np.testing.assert_array_equal(panel.trigger("keep-a", "click", first, *AT_REST)["State"].ends, [anchor, anchor])
    kept = panel.trigger("keep-b", "click", Tab("dcgan:3", 9, anchor=anchor, ends=ENDS), *AT_REST)["State"]
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
    assert f"--steps 5{flags} --scale 1 --out" in shown


def test_a_and_b_are_shown_and_the_strip_of_others_goes(page: PanelPage) -> None:
    panel = page.add(panels.MorphPanel, page.tab, page.add(panels.SamplesPanel, page.pick, page.tab))
    ends, strip, animation, shown, *_ = panel.ends_event["fn"](TAB, 3)
    np.testing.assert_array_equal(pictures_of(ends), pixels_of(ENDS, 4, 3, 1)[..., 0])
    assert (strip, animation, shown) == ("", "", 4)  # the change of the number then asks for the picture between


@pytest.mark.parametrize(("through", "stops"), [("A and B", 2), ("the first 6 samples", 3)])
def test_an_animation_returns_to_its_start(panel: PanelPage, through: str, stops: int) -> None:
    assert panel.inputs("make-animation", "click") == ["State", "way", "through", "format"]
    shown = panel.trigger("make-animation", "click", TAB, "linear", through, "GIF")["animation"]
    [uri] = set(re.findall(r'"data:image/gif;base64,([^"]+)"', shown))
    with Image.open(io.BytesIO(base64.b64decode(uri))) as gif:
        frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(gif)]
    latents = walks.walk(LATENTS[:stops], 20, "linear", loop=True)
    images = pixels_of(latents, 4, 3, 1)[..., 0].repeat(64, axis=1).repeat(64, axis=2)
    np.testing.assert_array_equal(frames[0], images[0])
    np.testing.assert_array_equal(frames[-1], images[-1])
    assert "--steps 20 --loop --linear --out dcgan-3-walk.gif" in shown


def test_a_mistake_changes_the_banner_only(panel: PanelPage) -> None:
    assert "press Sample in the Explore tab first" in panel.complaint("fraction", "input", Tab("dcgan:3"), "linear", 0)
    assert "steps: must be a whole number in 2 .. 64" in panel.complaint("make-strip", "click", TAB, "linear", 65)
    assert "from A to B: must be a number" in panel.complaint("fraction", "input", TAB, "linear", None)

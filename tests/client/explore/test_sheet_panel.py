from __future__ import annotations

import numpy as np
import pytest

from client.sdk import walks
from ganserve.grids import image_grid, labelled_lines
from ganserve.latents import latents_from_seed
from ganserve.traversal import line_labels
from tests.client.explore.conftest import NO_GRADIO, PanelPage, pictures_of
from tests.client.fake_server import FakeServer, model, pixels_of

panels = pytest.importorskip("client.explore.sheet_panel", reason=NO_GRADIO)

UNCHANGED = {"__type__": "update"}


@pytest.fixture
def panel(page: PanelPage) -> PanelPage:
    page.add(panels.SheetPanel, page.pick)
    return page


def test_the_sheet_is_that_of_the_command_beside_it(panel: PanelPage) -> None:
    inputs = ["model", "sheet-dimensions", "sheet-values", "sheet-seed", "sheet-count"]
    assert panel.inputs("make-sheet", "click") == inputs
    shown = panel.trigger("make-sheet", "click", "dcgan:3", "5, 3", "-3, 0.25", "7", 2)["sheet"]
    latents = walks.traversal(latents_from_seed(7, 2, 6), [5, 3], [-3, 0.25])
    sheet = labelled_lines(image_grid(pixels_of(latents, 4, 3, 1), 2), line_labels([5, 3], [-3, 0.25]))
    [picture] = pictures_of(shown)
    np.testing.assert_array_equal(picture, np.asarray(sheet))
    assert "--seed 7 --n 2 --dims=5,3 --values=-3,0.25 --scale 1 --out" in shown


def test_opening_the_tab_draws_the_sheet_of_the_model_once(page: PanelPage) -> None:
    open_tab = page.add(panels.SheetPanel, page.pick).open_event["fn"]
    sheet, drawn, *_ = open_tab("", "dcgan:3", "5", "0", "7", 2)
    assert len(pictures_of(sheet)) == 1
    assert list(open_tab(drawn, "dcgan:3", "5", "0", "7", 2).values()) == [UNCHANGED]


def test_a_sheet_too_large_for_a_page_is_refused_before_anything_is_generated(
    panel: PanelPage, server: FakeServer
) -> None:
    server.models = [model(height=512, width=512)]
    banner = panel.complaint("make-sheet", "click", "dcgan:3", "0, 1, 2", "-3, 0, 3", "7", 8)
    assert "72 images of 512x512 are too many to show at once; ask for at most 64" in banner
    assert not server.requests


def test_a_mistake_changes_the_banner_only(panel: PanelPage) -> None:
    for values, words in (
        (("", "0", "7", 2), "dimensions: give 1 .. 16 numbers"),
        (("0", "far", "7", 2), "values: must be a number"),
        (("0", "0", "seven", 2), "seed: must be"),
        (("0", "0", "7", 33), "columns: must be a whole number in 1 .. 32"),
    ):
        assert words in panel.complaint("make-sheet", "click", "dcgan:3", *values)

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from client.errors import InvalidRequest
from client.explore import explorer as explorer_module
from client.explore.directions import MAX_DIRECTIONS, Directions
from client.explore.link import Link, link_from
from client.explore.tab import MAX_DIMENSIONS, Tab, slider_values
from client.explore.training_pictures import TrainingPictures
from ganserve.latents import latents_from_seed
from tests.client.explore.conftest import NO_GRADIO, PanelPage, pictures_of
from tests.client.fake_server import FakeServer, pixels_of

panels = pytest.importorskip("client.explore.samples_panel", reason=NO_GRADIO)

LATENTS = latents_from_seed(7, 4, 6)
IMAGES = pixels_of(LATENTS, 4, 3, 1)[..., 0]
AT_REST = [0.0] * (MAX_DIMENSIONS + MAX_DIRECTIONS)


@pytest.fixture
def panel(page: PanelPage) -> PanelPage:
    page.add(panels.SamplesPanel, page.pick, page.tab)
    return page


def sampled(
    panel: PanelPage, dimensions: str = "5, 1", truncation: float = 1, button: str = "sample"
) -> dict[str, Any]:
    return panel.trigger(button, "click", "dcgan:3", " 7 ", 4.0, truncation, dimensions, Tab(), 3)


def labels_of(shown: dict[str, Any], name: str) -> list[str]:
    """The labels of the sliders that are visible."""
    return [value["label"] for key, value in shown.items() if key.startswith(f"{name}-") and value.get("visible")]


def test_samples_are_those_of_the_seed_and_the_first_is_the_anchor(panel: PanelPage) -> None:
    fields = ["model", "seed", "count", "truncation", "dimensions", "State", "unknown"]
    assert panel.inputs("sample", "click") == fields
    shown = sampled(panel)
    np.testing.assert_array_equal(pictures_of(shown["samples"]), IMAGES)
    np.testing.assert_array_equal(pictures_of(shown["picture"]), IMAGES[:1])
    assert "ganclient grid --model dcgan --version 3 --n 4 --seed 7 --columns" in shown["samples"]
    assert shown["banner"] == ""
    tab = shown["State"]
    assert (tab.key, tab.seed, tab.row, tab.dimensions) == ("dcgan:3", 7, 0, (5, 1))
    np.testing.assert_array_equal(tab.latents, LATENTS)
    assert (shown["seed"], shown["count"], shown["truncation"], shown["dimensions"]) == ("7", 4, 1, "5, 1")
    assert shown["unknown"] == 4  # asks for the directions
    assert 'data-query="?model=dcgan:3&amp;seed=7&amp;samples=4"' in shown["picture"]
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


def found(_generate: object, _latent_dim: int, _prior: str, *, progress: Callable[[float], object]) -> Directions:
    progress(0.5)
    return Directions(np.eye(2, 6, dtype=np.float32), (0.75, 0.25), 0.5)


def test_directions_are_found_by_themselves_and_known_to_the_next_samples(
    panel: PanelPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer_module, "strongest_directions", found)
    before = sampled(panel)
    assert "Finding the directions" in before["directions-note"]
    steps: list[float] = []
    shown = panel.trigger("unknown", "change", before["State"], extra=[lambda done, desc: steps.append(done)])
    assert steps == [0.5]
    assert labels_of(shown, "direction") == ["direction 1 (75.0%)", "direction 2 (25.0%)"]
    assert "explains 50% of" in shown["directions-note"]
    after = sampled(panel)
    assert labels_of(after, "direction") == labels_of(shown, "direction")
    assert after["unknown"] == 3  # does not ask again
    # The state of the tab is older than the directions; their sliders move the picture all the same.
    positions = [*panel_positions(before["State"]), 1.5, *[0.0] * (MAX_DIRECTIONS - 1)]
    moved = panel.trigger("direction-1", "input", before["State"], *positions)["picture"]
    latent = LATENTS[:1].copy()
    latent[0, 0] += 1.5
    np.testing.assert_array_equal(pictures_of(moved), pixels_of(latent, 4, 3, 1)[..., 0])
    assert "&amp;d1=1.5" in moved


def panel_positions(tab: Tab) -> list[float]:
    """The positions of the dimension sliders at rest."""
    return [*slider_values(tab), *[0.0] * (MAX_DIMENSIONS - len(tab.dimensions))]


def test_a_model_without_directions_says_why(panel: PanelPage, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> Directions:
        raise InvalidRequest("directions: the images do not depend on the latent")

    monkeypatch.setattr(explorer_module, "strongest_directions", none)
    shown = panel.trigger("unknown", "change", sampled(panel)["State"], extra=[lambda *_, **__: None])
    assert "directions: the images do not depend" in shown["directions-note"]
    assert shown["banner"] == ""


def test_truncation_multiplies_the_latents(panel: PanelPage) -> None:
    shown = sampled(panel, truncation=0.5)
    np.testing.assert_array_equal(shown["State"].latents, np.float32(0.5) * LATENTS)
    assert "ganclient latents dcgan-3-seed-7.npy --model dcgan" in shown["samples"]
    assert "&amp;truncation=0.5" in shown["picture"]


def test_another_seed_has_at_most_five_digits_and_belongs_to_the_pictures(panel: PanelPage) -> None:
    shown = sampled(panel, button="another-seed")
    seed = int(shown["seed"])
    assert 0 <= seed <= 99_999
    np.testing.assert_array_equal(
        pictures_of(shown["samples"]), pixels_of(latents_from_seed(seed, 4, 6), 4, 3, 1)[..., 0]
    )


def test_the_fields_go_back_to_the_pictures_while_the_server_is_gone(panel: PanelPage, server: FakeServer) -> None:
    tab = sampled(panel, truncation=0.5)["State"]
    server.failures.extend([(grpc.StatusCode.UNAVAILABLE, "stopped")] * 9)
    shown = panel.trigger("sample", "click", "dcgan:3", "8", 5, 1, "5, 1", tab, 3)
    assert (shown["seed"], shown["count"], shown["truncation"]) == ("7", 4, 0.5)
    assert "The server does not answer" in shown["server-banner"]


def test_a_link_shows_its_sample_and_moved_sliders(page: PanelPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer_module, "strongest_directions", found)
    panel = page.add(panels.SamplesPanel, page.pick, page.tab)
    link = Link("dcgan:3", seed=7, count=4, row=2, dimensions={4: -1.5}, directions={1: 2.0})
    shown = dict(zip(map(_name, panel.made), panel.show(link, "5, 1", 0), strict=True))
    latent = LATENTS[2:3].copy()
    latent[0, 4] = -1.5
    latent[0, 0] += 2
    np.testing.assert_array_equal(pictures_of(shown["picture"]), pixels_of(latent, 4, 3, 1)[..., 0])
    assert (shown["dimension-1"]["label"], shown["dimension-1"]["value"]) == ("dimension 4", -1.5)
    assert shown["direction-1"]["value"] == 2
    assert link_from(re.findall('data-query="([^"]+)"', shown["picture"])[0].replace("&amp;", "&")) == link


def _name(component: Any) -> str:
    return component.elem_id or type(component).__name__


def test_latents_of_a_file_become_the_samples(panel: PanelPage, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", LATENTS[1:])
    shown = panel.trigger("upload-latents", "upload", "dcgan:3", str(tmp_path / "mine.npy"), "5", 0)
    np.testing.assert_array_equal(pictures_of(shown["samples"]), IMAGES[1:])
    assert (shown["seed"], shown["count"], shown["State"].seed) == ("", 3, None)
    assert "ganclient latents dcgan-3-latents.npy" in shown["samples"]
    np.save(tmp_path / "other.npy", np.zeros((2, 7), np.float32))
    banner = panel.complaint("upload-latents", "upload", "dcgan:3", str(tmp_path / "other.npy"), "5", 0)
    assert "the file holds 2 of size 7; dcgan:3 takes latents of size 6" in banner


def test_the_nearest_training_pictures_are_those_of_the_moved_picture(
    page: PanelPage, tmp_path: Path, server: FakeServer
) -> None:
    for row, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{row}.png")
    page.explorer.pictures = TrainingPictures(tmp_path)
    page.add(panels.SamplesPanel, page.pick, page.tab)
    tab = sampled(page)["State"]
    positions = [*panel_positions(tab), *[0.0] * MAX_DIRECTIONS]
    shown = page.trigger("find-nearest", "click", tab, *positions)["nearest"]
    np.testing.assert_array_equal(pictures_of(shown)[0], IMAGES[0])
    assert "<figcaption>0.0<" in shown


def test_a_mistake_changes_the_banner_only(panel: PanelPage) -> None:
    for values, words in (
        (("dcgan:3", "-1", 4, 1, "5"), "seed: must be"),
        (("dcgan:3", "7", 145, 1, "5"), "samples: must be a whole number in 1 .. 144"),
        (("dcgan:3", "7", 4, 2, "5"), "truncation: must be a number in 0 .. 1"),
        (("dcgan:3", "7", 4, 1, "6"), "dimensions: must be a whole number in 0 .. 5"),
        (("a2b:5", "7", 4, 1, "5"), "a2b:5 does not work in this tab; use the Translate tab"),
        (("gone:1", "7", 4, 1, "5"), "gone:1 is no longer served"),
    ):
        assert words in panel.complaint("sample", "click", *values, Tab(), 0)
    assert "press Sample first" in panel.complaint("dimension-1", "input", Tab(), *AT_REST)
    assert "press Sample first" in panel.complaint("unknown", "change", Tab())

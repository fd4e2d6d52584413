from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganserve.pictures import fit_picture
from ganserve.v1 import generator_pb2 as pb
from tests.client.explore.conftest import NO_GRADIO, PanelPage, pictures_of
from tests.client.fake_server import FakeServer, translator

panels = pytest.importorskip("client.explore.translate_panel", reason=NO_GRADIO)


@pytest.fixture
def panel(page: PanelPage) -> PanelPage:
    page.add(panels.TranslatePanel, page.pick)
    return page


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "my picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(path)
    return path


def test_a_picture_is_shown_as_the_model_sees_it_beside_its_translation(panel: PanelPage, picture: Path) -> None:
    assert panel.inputs("picture-file", "upload") == ["model", "picture-file"]
    shown = panel.trigger("picture-file", "upload", "a2b:5", str(picture))["translation"]
    seen, made = pictures_of(shown)
    np.testing.assert_array_equal(seen, np.asarray(fit_picture(Image.open(picture), 3, 4)))
    np.testing.assert_array_equal(made, 255 - seen)
    assert "ganclient translate &#x27;my picture.png&#x27; --model a2b --version 5 --resize --out" in shown


def test_a_model_of_grey_images_is_shown_to_see_grey(panel: PanelPage, picture: Path, server: FakeServer) -> None:
    server.models = [translator(input_image=pb.ImageShape(channels=1, height=4, width=3))]
    seen, _ = pictures_of(panel.trigger("picture-file", "upload", "a2b:5", str(picture))["translation"])
    assert seen.shape == (4, 3)


def test_a_picture_that_is_taken_away_leaves_nothing(panel: PanelPage) -> None:
    assert panel.trigger("picture-file", "upload", "a2b:5", None)["translation"] == ""
    assert panel.trigger("picture-file", "clear") == {"translation": ""}


def test_a_file_that_cannot_be_translated_is_named(
    panel: PanelPage, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    for key, path, words in (
        ("a2b:5", text, "notes.png: cannot be read ("),
        ("a2b:5", tmp_path / "gone.png", "gone.png: cannot be read (No such file or directory); drop it again"),
        ("dcgan:3", picture, "dcgan:3 does not work in this tab"),
    ):
        assert words in panel.complaint("picture-file", "upload", key, str(path))
    monkeypatch.setattr(panels, "MAX_REQUEST_IMAGE_BYTES", 99)
    assert "my picture.png: is larger than 99 bytes" in panel.complaint("picture-file", "upload", "a2b:5", str(picture))

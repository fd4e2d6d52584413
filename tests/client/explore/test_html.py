from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from client.explore import html as figures
from client.explore.training_pictures import Nearest

PNG = figures.png_of(Image.new("L", (3, 2), 7))
LATENTS = np.arange(6, dtype=np.float32).reshape(2, 3)


class _Parts(HTMLParser):
    """The elements as a browser would parse them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def uri_bytes(uri: str | None) -> bytes:
    assert uri is not None
    return base64.b64decode(uri.partition("base64,")[2], validate=True)


def test_a_figure_holds_the_picture_the_latents_and_the_command() -> None:
    parts = _Parts(figures.figure(PNG, "dcgan-1-picture", "a picture", "ganclient latents x", LATENTS))
    [image] = [attributes for tag, attributes in parts.tags if tag == "img"]
    assert uri_bytes(image["src"]) == PNG
    saves = {attributes.get("data-save"): attributes for tag, attributes in parts.tags if tag == "button"}
    loaded = np.load(io.BytesIO(uri_bytes(saves["dcgan-1-picture.npy"]["data-uri"])), allow_pickle=False)
    np.testing.assert_array_equal(loaded, LATENTS)
    assert "dcgan-1-picture.png" in saves
    assert parts.text.endswith("ganclient latents x")


def test_samples_are_buttons_and_one_is_selected() -> None:
    html = figures.samples([PNG, PNG, PNG], 2, 1, "stem", "command", LATENTS, PNG)
    buttons = [attributes for _, attributes in _Parts(html).tags if "data-row" in attributes]
    assert [button["data-row"] for button in buttons] == ["0", "1", "2"]
    assert [button["aria-pressed"] for button in buttons] == ["false", "true", "false"]


@given(st.text(max_size=40))
def test_text_from_servers_and_users_is_escaped(text: str) -> None:
    plain = _Parts(figures.figure(PNG, "s", "a", "c"))
    for html in (figures.figure(PNG, "s", text, text), figures.figure(PNG, text, "a", "c")):
        assert [tag for tag, _ in _Parts(html).tags] == [tag for tag, _ in plain.tags]
    assert [tag for tag, _ in _Parts(figures.line_of_error(f"x{text}")).tags] == ["p"]
    assert [tag for tag, _ in _Parts(figures.plain_picture(PNG, text)).tags] == ["figure", "img", "figcaption"]


def test_empty_text_gives_no_banner() -> None:
    assert figures.line_of_error("") == ""
    assert re.search(r'role="alert">gone<', figures.line_of_error("gone"))


def test_a_gone_server_is_one_state_with_the_command_that_starts_it() -> None:
    parts = _Parts(figures.server_down("gone <b>", "python -m server"))
    assert [tag for tag, _ in parts.tags] == ["div", "h2", "p", "code", "p"]
    assert "python -m server" in parts.text
    assert figures.server_down("", "python -m server") == ""


def test_an_animation_is_an_image_or_a_video_and_can_be_saved() -> None:
    for suffix, element in ((".gif", "img"), (".mp4", "video")):
        parts = _Parts(figures.animation(b"file", suffix, "walk", "command", LATENTS))
        [source] = [attributes["src"] for tag, attributes in parts.tags if tag == element]
        saves = {attributes.get("data-save"): attributes for tag, attributes in parts.tags if tag == "button"}
        assert uri_bytes(source) == uri_bytes(saves[f"walk{suffix}"]["data-uri"]) == b"file"


def test_the_metrics_of_two_cards_share_a_table_and_unknown_ones_are_blank() -> None:
    table = figures.metrics_table(["a:1", "b<:2"], [{"frechet_distance": 3.25}, {"ms_ssim": 0.5}])
    assert "<td>3.25</td><td>-</td>" in table
    assert "<td>-</td><td>0.5</td>" in table
    assert "b&lt;:2" in table
    assert figures.metrics_table(["a:1"], [{}]) == ""


def test_nearest_pictures_are_shown_with_distances_and_the_usual_one() -> None:
    images = np.zeros((2, 3, 3, 1), np.uint8)
    shown = figures.nearest_pictures(Nearest(images, (1.25, 20.0), 14.5, 1797))
    assert re.findall(r"<figcaption>(.*?)<", shown) == ["1.2", "20.0"]
    assert "1,797 training pictures" in shown
    assert "14.5" in shown
    assert "usually" not in figures.nearest_pictures(Nearest(images[:1], (1.0,), float("nan"), 1))

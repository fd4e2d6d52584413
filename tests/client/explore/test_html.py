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

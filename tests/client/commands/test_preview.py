from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from client.commands.preview import inline_protocol, show_picture

KITTY = re.compile(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\")


def shown(picture: Image.Image, protocol: Any, *, width: int = 80, height: int = 24) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="truecolor", width=width, height=height)
    show_picture(picture, console, protocol)
    return file.getvalue()


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM_PROGRAM": "iTerm.app", "TERM": "screen-256color"}, None),
        ({"KITTY_WINDOW_ID": "1", "TMUX": "/tmp/tmux"}, None),
    ],
)
def test_only_terminals_that_support_images_get_them(environment: dict[str, str], expected: str | None) -> None:
    assert inline_protocol(environment) == expected


def test_kitty_gets_the_picture_in_chunks_of_the_allowed_size() -> None:
    picture = noise(60, 80)
    codes = KITTY.findall(shown(picture, "kitty"))
    assert len(codes) > 2
    assert codes[0][0] == "a=T,f=100,q=2,c=20,m=1"
    assert [keys for keys, _ in codes[1:]] == ["m=1"] * (len(codes) - 2) + ["m=0"]
    assert all(0 < len(piece) <= 4096 and len(piece) % 4 == 0 for _, piece in codes)
    sent = Image.open(io.BytesIO(base64.b64decode("".join(piece for _, piece in codes))))
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(picture))


def test_iterm2_gets_the_picture_in_one_escape_code() -> None:
    code = r"\x1b\]1337;File=inline=1;size=(\d+);width=2;preserveAspectRatio=1:(.*)\x07\n"
    found = re.fullmatch(code, shown(noise(8, 8), "iterm2"))
    assert found
    png = base64.b64decode(found[2])
    assert len(png) == int(found[1])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(noise(8, 8)))


def test_half_blocks_show_two_pixels_per_cell() -> None:
    pixels = np.zeros((16, 8, 3), np.uint8)
    pixels[:4] = [255, 0, 0]
    pixels[4:8] = [0, 255, 0]
    pixels[8:] = [1, 2, 3]
    cell = "\x1b[38;2;{};48;2;{}m▀\x1b[0m"
    upper = "".join([cell.format("255;0;0", "0;255;0")] * 2)
    lower = "".join([cell.format("1;2;3", "1;2;3")] * 2)
    text = shown(Image.fromarray(pixels), None)
    # Neighbours of the same colour may share their codes.
    apart = re.sub(r"(\x1b\[[0-9;]*m)(▀+)\x1b\[0m", lambda found: f"{found[1]}▀\x1b[0m" * len(found[2]), text)
    assert apart == f"{upper}\n{lower}\n"


@pytest.mark.parametrize(("width", "height"), [(20, 100), (80, 10)])
def test_a_preview_fits_the_window(width: int, height: int) -> None:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown(noise(400, 400), None, width=width, height=height)).splitlines()
    assert 1 <= len(lines) < height
    assert {len(line) for line in lines} == {min(width, 2 * (height - 2))}


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("protocol", [None, "kitty", "iterm2"])
def test_pictures_of_every_mode_are_shown(mode: str, protocol: Any) -> None:
    assert "\x1b" in shown(Image.new(mode, (9, 5)), protocol)


def test_a_very_large_picture_is_sent_smaller() -> None:
    found = re.search(r"width=\d+;preserveAspectRatio=1:(.*)\x07", shown(Image.new("L", (6400, 200)), "iterm2"))
    assert found
    assert Image.open(io.BytesIO(base64.b64decode(found[1]))).size == (1600, 50)

"""Shows a picture in the terminal: as an image if the terminal supports it, otherwise as coloured half blocks."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from typing import Final, Literal

from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

Protocol = Literal["kitty", "iterm2"]

_KITTY_TERMS: Final = ("xterm-kitty", "xterm-ghostty")
_PROGRAMS: Final[dict[str, Protocol]] = {"ghostty": "kitty", "iTerm.app": "iterm2", "WezTerm": "iterm2"}
_MULTIPLEXERS: Final = ("screen", "tmux")  # these do not forward images

_PIXELS_PER_COLUMN: Final = 4  # limits the magnification of small pictures
_MAX_SENT_SIDE: Final = 1600  # pixels; larger than a window
_MAX_PAYLOAD: Final = 4096  # characters per escape code in kitty's specification


def inline_protocol(environment: Mapping[str, str]) -> Protocol | None:
    """The image protocol of the terminal, according to the environment variables; None if it has none."""
    term = environment.get("TERM", "")
    if "TMUX" in environment or term.startswith(_MULTIPLEXERS):
        return None
    if environment.get("KITTY_WINDOW_ID") or term in _KITTY_TERMS:
        return "kitty"
    return _PROGRAMS.get(environment.get("TERM_PROGRAM", ""))


def show_picture(picture: Image.Image, console: Console, protocol: Protocol | None) -> None:
    """Prints a picture to `console`, scaled to fit its window.

    Args:
        picture: Of any mode; transparent parts become black.
        console: Receives the escape codes.
        protocol: None: coloured half blocks.
    """
    shown = _on_black(picture)
    columns = _columns(shown, console)
    if protocol is None:
        console.print(_half_blocks(shown, columns), soft_wrap=True)
        return
    code = (_kitty if protocol == "kitty" else _iterm2)(_png(shown), columns)
    console.file.write(code + "\n")
    console.file.flush()


def _columns(picture: Image.Image, console: Console) -> int:
    """The width in columns, assuming that a character cell is twice as high as wide."""
    fitting = (console.height - 2) * 2 * picture.width // picture.height
    return max(1, min(console.width, fitting, math.ceil(picture.width / _PIXELS_PER_COLUMN)))


def _on_black(picture: Image.Image) -> Image.Image:
    if picture.mode in ("L", "RGB"):
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture.convert("RGBA")).convert("RGB")


def _png(picture: Image.Image) -> bytes:
    if max(picture.size) > _MAX_SENT_SIDE:
        picture = picture.copy()
        picture.thumbnail((_MAX_SENT_SIDE, _MAX_SENT_SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _kitty(png: bytes, columns: int) -> str:
    """The kitty graphics protocol: transmits and displays (a=T) a PNG (f=100) in pieces, without replies (q=2)."""
    data = base64.b64encode(png).decode()
    pieces = [data[start : start + _MAX_PAYLOAD] for start in range(0, len(data), _MAX_PAYLOAD)]
    keys = [f"a=T,f=100,q=2,c={columns},"] + [""] * (len(pieces) - 1)
    more = [1] * (len(pieces) - 1) + [0]
    return "".join(f"\x1b_G{key}m={flag};{piece}\x1b\\" for key, flag, piece in zip(keys, more, pieces, strict=True))


def _iterm2(png: bytes, columns: int) -> str:
    """The inline image protocol of iTerm2."""
    data = base64.b64encode(png).decode()
    return f"\x1b]1337;File=inline=1;size={len(png)};width={columns};preserveAspectRatio=1:{data}\x07"


def _half_blocks(picture: Image.Image, columns: int) -> Text:
    """Two pixels per cell: the upper one is the foreground colour, the lower one the background colour."""
    lines = max(1, round(columns * picture.height / picture.width / 2))
    small = picture.convert("RGB").resize((columns, 2 * lines), Image.Resampling.BOX)
    text = Text(no_wrap=True)
    for line in range(lines):
        for column in range(columns):
            upper, lower = (_colour(small, column, 2 * line + half) for half in (0, 1))
            text.append("▀", Style(color=upper, bgcolor=lower))
        if line < lines - 1:
            text.append("\n")
    return text


def _colour(picture: Image.Image, column: int, line: int) -> Color:
    pixel = picture.getpixel((column, line))
    assert isinstance(pixel, tuple)  # of an RGB picture
    return Color.from_rgb(*pixel)

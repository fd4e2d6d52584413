"""Pictures as pieces of the page, each with what it takes to download it and to make it again.

Everything that comes from a server or a user is escaped here, and nowhere else.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def png_of(image: Image.Image) -> bytes:
    """An image as a PNG file, made quickly: it travels within this machine."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def npy_of(latents: NDArray[np.float32]) -> bytes:
    """Latents as a .npy file."""
    file = io.BytesIO()
    np.save(file, latents, allow_pickle=False)
    return file.getvalue()


def figure(png: bytes, stem: str, alt: str, command: str, latents: NDArray[np.float32] | None = None) -> str:
    """A picture, buttons that download it, and the command that makes it again.

    Args:
        png: the picture.
        stem: of the names of the files to download.
        alt: what it shows, for those who do not see it.
        command: that makes it again, with STEM.npy in the folder if there are latents.
        latents: what it was made from, where the command needs them.
    """
    shown = f'<img src="{_png_uri(png)}" alt="{escape(alt)}">'
    return f'<figure class="made">{shown}{_caption(stem, command, latents)}</figure>'


def samples(
    files: Sequence[bytes], columns: int, chosen: int, stem: str, command: str, latents: NDArray[np.float32], png: bytes
) -> str:
    """Samples to choose from, with what `figure` has besides.

    Args:
        files: PNG files, one a sample.
        columns: how many stand side by side.
        chosen: the one that is marked.
        stem: of the names of the files to download.
        command: that makes their picture again.
        latents: what they were made from.
        png: all of them as one picture.
    """
    cells = "".join(
        f'<button type="button" data-row="{row}" aria-label="sample {row}"'
        f' aria-pressed="{str(row == chosen).lower()}"><img src="{_png_uri(file)}" alt=""></button>'
        for row, file in enumerate(files)
    )
    grid = f'<div class="samples" style="--columns: {columns}">{cells}</div>'
    return f'<figure class="made wide">{grid}{_caption(stem, command, latents, png)}</figure>'


def plain_picture(png: bytes, caption: str) -> str:
    """A picture with a caption and nothing to do about it."""
    return (
        f'<figure class="made small"><img src="{_png_uri(png)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def side_by_side(figures: Sequence[str]) -> str:
    """Figures in one line, or below each other where that is too narrow."""
    return f'<div class="side">{"".join(figures)}</div>'


def line_of_error(text: str) -> str:
    """A banner; nothing for no text."""
    return f'<p class="banner" role="alert">{escape(text)}</p>' if text else ""


def line_of_text(text: str) -> str:
    """A quiet line."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def _caption(stem: str, command: str, latents: NDArray[np.float32] | None, png: bytes | None = None) -> str:
    """The buttons and the command; the picture to download is the one that is shown, unless it is given here."""
    given = "" if png is None else f' data-uri="{_png_uri(png)}"'
    buttons = [f'data-save="{escape(stem)}.png"{given}>Download PNG']
    if latents is not None:
        npy = base64.b64encode(npy_of(latents)).decode("ascii")
        buttons.append(
            f'data-save="{escape(stem)}.npy" data-uri="data:application/octet-stream;base64,{npy}">Latents (.npy)'
        )
    buttons.append("data-copy>Copy command")
    saves = "".join(f'<button type="button" class="save" {button}</button>' for button in buttons)
    return f'<figcaption><span class="saves">{saves}</span><code>{escape(command)}</code></figcaption>'


def _png_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"

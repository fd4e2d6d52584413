"""The HTML of the page: pictures with download buttons and the command that reproduces them, banners and notes.

All text from a server or a user is escaped in this module, and only here.
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
    """Encodes an image as PNG, with fast compression: it stays on this machine."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def npy_of(latents: NDArray[np.float32]) -> bytes:
    """Encodes latents as a .npy file."""
    file = io.BytesIO()
    np.save(file, latents, allow_pickle=False)
    return file.getvalue()


def figure(png: bytes, stem: str, alt: str, command: str, latents: NDArray[np.float32] | None = None) -> str:
    """A picture with download buttons and the command that reproduces it.

    Args:
        png: The picture.
        stem: The name of the downloaded files, without extension.
        alt: The alternative text of the picture.
        command: Reproduces the picture; reads STEM.npy if there are latents.
        latents: The latents of the picture, if the command needs them.
    """
    shown = f'<img src="{_png_uri(png)}" alt="{escape(alt)}">'
    return f'<figure class="made">{shown}{_caption(stem, command, latents)}</figure>'


def samples(
    files: Sequence[bytes], columns: int, chosen: int, stem: str, command: str, latents: NDArray[np.float32], png: bytes
) -> str:
    """A clickable grid of samples, with buttons and command as in `figure`.

    Args:
        files: One PNG file per sample.
        columns: The number of columns.
        chosen: The row of the selected sample.
        stem: The name of the downloaded files, without extension.
        command: Reproduces the grid as one picture.
        latents: The latents of the samples.
        png: The grid as one picture.
    """
    cells = "".join(
        f'<button type="button" data-row="{row}" aria-label="sample {row}"'
        f' aria-pressed="{str(row == chosen).lower()}"><img src="{_png_uri(file)}" alt=""></button>'
        for row, file in enumerate(files)
    )
    grid = f'<div class="samples" style="--columns: {columns}">{cells}</div>'
    return f'<figure class="made wide">{grid}{_caption(stem, command, latents, png)}</figure>'


def plain_picture(png: bytes, caption: str) -> str:
    """A picture with a caption, without buttons."""
    return (
        f'<figure class="made small"><img src="{_png_uri(png)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def side_by_side(figures: Sequence[str]) -> str:
    """Figures side by side, or stacked on a narrow screen."""
    return f'<div class="side">{"".join(figures)}</div>'


def line_of_error(text: str) -> str:
    """An error banner; empty for an empty text."""
    return f'<p class="banner" role="alert">{escape(text)}</p>' if text else ""


def line_of_text(text: str) -> str:
    """A note; empty for an empty text."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def _caption(stem: str, command: str, latents: NDArray[np.float32] | None, png: bytes | None = None) -> str:
    """The buttons and the command. The download is `png`, or else the picture on the page."""
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

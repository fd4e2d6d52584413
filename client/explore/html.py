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

from client.explore.training_pictures import Nearest
from ganserve.grids import image_grid
from ganserve.metrics import METRICS


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


def figure(
    png: bytes, stem: str, alt: str, command: str, latents: NDArray[np.float32] | None = None, query: str = ""
) -> str:
    """A picture with download buttons and the command that reproduces it.

    Args:
        png: The picture.
        stem: The name of the downloaded files, without extension.
        alt: The alternative text of the picture.
        command: Reproduces the picture; reads STEM.npy if there are latents.
        latents: The latents of the picture, if the command needs them.
        query: The query string of a link to it, which page.js writes into the address of the page.
    """
    shown = f'<img src="{_png_uri(png)}" alt="{escape(alt)}">'
    link = f' data-query="{escape(query)}"' if query else ""
    return f'<figure class="made"{link}>{shown}{_caption(stem, command, latents)}</figure>'


def animation(file: bytes, suffix: str, stem: str, command: str, latents: NDArray[np.float32]) -> str:
    """An animation, .gif or .mp4, with buttons and command as in `figure`."""
    kind = "image/gif" if suffix == ".gif" else "video/mp4"
    uri = f"data:{kind};base64,{base64.b64encode(file).decode('ascii')}"
    shown = (
        f'<img src="{uri}" alt="the walk, as an animation">'
        if suffix == ".gif"
        else f'<video src="{uri}" autoplay loop muted playsinline controls></video>'
    )
    return f'<figure class="made">{shown}{_caption(stem, command, latents, (suffix, uri))}</figure>'


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
    return f'<figure class="made wide">{grid}{_caption(stem, command, latents, (".png", _png_uri(png)))}</figure>'


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


def page_header(sentence: str, address: str) -> str:
    """The title of the page, what it is for, and the choice of how small pictures are enlarged."""
    return (
        f'<header class="title"><h1>ganserve explorer</h1><p>{escape(sentence)} Served by'
        f" <code>{escape(address)}</code>.</p>"
        '<label class="enlarge"><input type="checkbox" id="smooth"> Smooth enlargement</label></header>'
    )


def nearest_pictures(nearest: Nearest) -> str:
    """The training pictures nearest to a generated one, and how to read their distances."""
    shown = [
        plain_picture(png_of(image_grid(image[np.newaxis])), f"{distance:.1f}")
        for image, distance in zip(nearest.images, nearest.distances, strict=True)
    ]
    usual = (
        f" Between a training picture and the nearest other one it is usually {nearest.usual:.1f}; a far smaller"
        " distance hints at a memorised picture."
        if np.isfinite(nearest.usual)
        else ""
    )
    text = f"Nearest of {nearest.searched:,} training pictures, by the difference of their pixels (0 to 255).{usual}"
    return f'<div class="side nearest">{"".join(shown)}</div>{line_of_text(text)}'


def metrics_table(titles: Sequence[str], metrics: Sequence[dict[str, float]]) -> str:
    """A table of the metrics on several cards; empty if no card has any.

    Args:
        titles: Of the columns.
        metrics: Those of each card, by name.
    """
    names = [name for name in METRICS if any(name in column for column in metrics)]
    if not names:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    lines = "".join(
        f'<tr><th title="{escape(METRICS[name].explanation)}">{escape(METRICS[name].label)}'
        f" <small>{escape(_better(name))}</small></th>"
        + "".join(f"<td>{column[name]:.4g}</td>" if name in column else "<td>-</td>" for column in metrics)
        + "</tr>"
        for name in names
    )
    return f'<table class="metrics"><tr><th>Figures on the cards</th>{head}</tr>{lines}</table>'


def _better(name: str) -> str:
    better = METRICS[name].better
    return better if better == "as real images" else f"{better} is better"


def titled(title: str, note: str, figure: str) -> str:
    """A figure under a title and a note."""
    return f'<section class="titled"><h3>{escape(title)}</h3>{line_of_text(note)}{figure}</section>'


def tab_list(names: Sequence[str], query: str) -> str:
    """Names the tabs to show, for page.css, and the link to pictures without a link of their own, for page.js."""
    listed = " ".join(names)
    return f'<i data-tabs="{escape(listed)}" data-query="{escape(query)}"></i>'


def server_down(text: str, command: str) -> str:
    """The state of the page while the server is gone, and the command that starts it; empty for an empty text."""
    if not text:
        return ""
    remedy = f"<p>Start it on its machine:</p><code>{escape(command)}</code>" if command else ""
    return (
        f'<div class="banner down" role="status"><h2>The server does not answer</h2>{remedy}{line_of_text(text)}</div>'
    )


def line_of_text(text: str, details: str = "") -> str:
    """A note, with details that appear when the mouse rests on it; empty for an empty text."""
    title = f' title="{escape(details)}"' if details else ""
    return f'<p class="note"{title}>{escape(text)}</p>' if text else ""


def _caption(
    stem: str, command: str, latents: NDArray[np.float32] | None, download: tuple[str, str] | None = None
) -> str:
    """The buttons and the command. The download is a suffix and a URI, or else the picture on the page as .png."""
    suffix, uri = (".png", "") if download is None else download
    given = f' data-uri="{uri}"' if uri else ""
    buttons = [f'data-save="{escape(stem)}{suffix}"{given}>Download {suffix[1:].upper()}']
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

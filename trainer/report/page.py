"""A page of a report: plain values in, one self-contained HTML file out. The template engine escapes all text."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from ganserve.files import replace_file
from ganserve.pictures import UnreadablePictureError, decode_picture

MAX_PICTURE_BYTES = 64 << 20
MAX_PICTURE_PIXELS = 1 << 26
SHOWN_PIXELS = 560  # largest width and height; larger pictures are shrunk
WIDE_PIXELS = 1100  # the same for charts and figures
AXES = ("steps", "images", "time")  # horizontal axes of charts over the course of a run; the first is shown at first


@dataclass(frozen=True)
class Picture:
    """A picture, or a note that says why it is missing."""

    caption: str
    uri: str = ""
    missing: str = ""
    is_pixels: bool = False  # a grid of small images: the browser enlarges it without smoothing
    axis: str = ""  # one of AXES: of several pictures, the reader chooses which to see


@dataclass(frozen=True)
class TableCell:
    """One cell of a table."""

    text: str
    is_best: bool = False
    is_number: bool = False
    is_warning: bool = False
    columns: int = 1  # that the cell covers


@dataclass(frozen=True)
class Table:
    """A table. Its first column names the rows."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    note: str = ""
    groups: Sequence[tuple[str, int]] = ()  # headings above the headings, and how many columns each covers


@dataclass(frozen=True)
class Strip:
    """Pictures side by side under one heading."""

    title: str
    pictures: Sequence[Picture]
    note: str = ""


@dataclass(frozen=True)
class Detail:
    """The section of one run, or of one cell of a sweep."""

    title: str
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    settings: Sequence[tuple[str, str]] = ()
    commands: Sequence[tuple[str, str]] = ()  # purpose, command
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """A complete report."""

    title: str
    lead: Sequence[str]
    label: str = ""  # a badge under the title, such as "Quick form"
    tables: Sequence[Table] = field(default_factory=tuple)
    charts: Sequence[Strip] = field(default_factory=tuple)
    strips: Sequence[Strip] = field(default_factory=tuple)
    details: Sequence[Detail] = field(default_factory=tuple)

    @property
    def axes(self) -> Sequence[str]:
        """The horizontal axes that the reader may choose from."""
        found = {picture.axis for strip in self.charts for picture in strip.pictures}
        return [axis for axis in AXES if axis in found]


def picture_of_file(path: Path | None, caption: str, *, side: int = SHOWN_PIXELS, is_pixels: bool = True) -> Picture:
    """A PNG file of a run, decoded and encoded again because it is untrusted. An unreadable file leaves a note."""
    if path is None:
        return Picture(caption, missing="not reached")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PICTURE_BYTES + 1)
        if len(data) > MAX_PICTURE_BYTES:
            return Picture(caption, missing=f"{path.name} is too large")
        image = decode_picture(data, formats=("PNG",), max_pixels=MAX_PICTURE_PIXELS)
    except FileNotFoundError:
        return Picture(caption, missing=f"{path.name} is missing")
    except (OSError, UnreadablePictureError) as error:
        return Picture(caption, missing=f"{path.name} is unreadable ({str(error)[:100]})")
    image.thumbnail((side, side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return Picture(caption, _data_uri("image/png", buffer.getvalue()), is_pixels=is_pixels)


def picture_of_svg(svg: bytes, caption: str, axis: str = "") -> Picture:
    """A chart as a picture."""
    return Picture(caption, _data_uri("image/svg+xml", svg), axis=axis)


def render(page: Page) -> str:
    """The page as HTML without external resources."""
    environment = Environment(
        loader=PackageLoader("trainer.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(page=page)


def write_page(page: Page, path: Path) -> None:
    """Writes the page atomically."""
    replace_file(path, render(page).encode("utf-8", "backslashreplace"))


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"

"""`ganclient latents`: images of latents that the user has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from client.commands.latent_rows import (
    MAX_IMAGES,
    check_picture_size,
    images_of,
    latents_of_file,
    served_generator,
)
from client.commands.model_options import model_options
from client.commands.number_types import whole_number
from client.commands.options import ConnectOptions, server_options
from client.commands.picture_options import Output, output_options
from client.errors import UnwritableOutput
from client.files.images import check_output, check_output_folder, is_picture_name, save_image
from ganserve.grids import image_grid, to_pil


def _picture_or_folder(_context: click.Context, _parameter: click.Parameter, name: str) -> Path:
    """Callback of a flag that names a picture, by its extension, or a folder, by having none, being one or a last /."""
    path = Path(name)
    try:
        if _is_folder(name):
            check_output_folder(path)
        else:
            check_output(path)
    except UnwritableOutput as error:
        hint = "" if _is_folder(name) or is_picture_name(path) else f"; or end it with {os.sep} for a folder"
        raise click.BadParameter(f"{error}{hint}") from error
    return path


def _is_folder(name: str) -> bool:
    return name.endswith(("/", os.sep)) or Path(name).is_dir() or not Path(name).suffix


@click.command()
@click.argument("file", metavar="FILE")
@model_options("generate")
@click.option(
    "--out",
    default="latents.png",
    show_default=True,
    callback=_picture_or_folder,
    metavar="PATH",
    help="A picture, for a grid of all images; or a folder, for a PNG file each.",
)
@click.option(
    "--columns",
    type=whole_number(1, MAX_IMAGES),
    metavar="INTEGER",
    help="How many images stand side by side in a grid.  [default: a square]",
)
@output_options
@server_options
def latents(
    *,
    file: str,
    model: str,
    version: int | None,
    out: Path,
    columns: int | None,
    output: Output,
    connect: ConnectOptions,
) -> None:
    """Generates the images of latents that are read from a .npy, .npz, .json or .csv file, one image a row.

    A .npy file holds an array (rows, size of a latent). Of a .npz file it is the only array, or the one called
    "latents", or the one named as FILE.npz:NAME. A .json file holds a list of rows, or an object with it as "latents".
    A .csv file has a row a line; a first line of names is left out.
    """
    as_picture = is_picture_name(out) and not out.is_dir()
    if columns is not None and not as_picture:
        raise click.BadParameter("is for a grid, and a folder holds none; leave it out", param_hint="--columns")
    picture = None
    with connect.client() as client:
        served = served_generator(client, model, version)
        rows = latents_of_file(served, file)
        if as_picture:
            check_picture_size(served, len(rows))
        with closing(images_of(client, served, rows)) as images:
            if as_picture:
                picture = image_grid(np.stack(list(images)), columns)
                save_image(picture, out)
            else:
                _save_each(images, out, len(rows))
    facts: dict[str, object] = {"model": served.name, "version": served.version, "images": len(rows), "latents": file}
    noun = "image" if len(rows) == 1 else "images"
    output.tell(out, facts, f"{len(rows)} {noun} of {served.name}:{served.version} (latents of {file})", picture)


def _save_each(images: Iterator[NDArray[np.uint8]], folder: Path, count: int) -> None:
    """Saves each image as a file whose name is its row, with as many digits as sort all of them."""
    digits = max(5, len(str(count - 1)))
    for row, image in enumerate(images):
        save_image(to_pil(image), folder / f"{row:0{digits}}.png")

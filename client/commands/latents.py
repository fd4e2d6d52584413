"""`ganclient latents`: generates the images of latents in a file."""

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
    scale_option,
    served_generator,
)
from client.commands.model_options import model_options
from client.commands.options import ConnectOptions, connection_options, whole_number
from client.commands.picture_options import Output, output_options
from client.errors import UnwritableOutput
from client.files.images import check_output, check_output_folder, is_picture_name, save_image
from ganserve.grids import fitting_scale, image_grid, magnified, to_pil
from ganserve.wording import counted


def _picture_or_folder(_context: click.Context, _parameter: click.Parameter, name: str) -> Path:
    """Callback of --out: a folder if the name has no extension, ends in / or is a folder; otherwise a picture."""
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
    help="Picture for a grid of all images, or folder for one PNG file per image.",
)
@click.option(
    "--columns",
    type=whole_number(1, MAX_IMAGES),
    metavar="INTEGER",
    help="Number of columns of the grid.  [default: a square grid]",
)
@scale_option()
@output_options
@connection_options
def latents(
    *,
    file: str,
    model: str,
    version: int | str | None,
    out: Path,
    columns: int | None,
    scale: int | None,
    output: Output,
    connect: ConnectOptions,
) -> None:
    """Generate the images of the latents in a file.

    \b
    .npy        an array (rows, latent size)
    .npz        the only array, the one named "latents", or FILE.npz:NAME
    .json       a list of rows, or an object with that list as "latents"
    .csv, .txt  one row per line; a header line is skipped
    """  # noqa: D301  (click's mark of a block that is not wrapped)
    as_picture = is_picture_name(out) and not out.is_dir()
    if columns is not None and not as_picture:
        raise click.BadParameter("applies to a grid, not to a folder; leave it out", param_hint="--columns")
    if scale is not None and not as_picture:
        raise click.BadParameter("applies to a grid, not to a folder; leave it out", param_hint="--scale")
    picture = None
    with connect.client(model=model, version=version) as client:
        served = served_generator(client, model, version)
        rows = latents_of_file(served, file)
        if as_picture:
            scale = scale or fitting_scale(served.height, served.width, len(rows), columns)
            check_picture_size(served, len(rows), scale)
        with closing(images_of(client, served, rows)) as images:
            if as_picture:
                picture = image_grid(magnified(np.stack(list(images)), scale or 1), columns)
                save_image(picture, out)
            else:
                _save_each(images, out, len(rows))
    facts: dict[str, object] = {"model": served.name, "version": served.version, "images": len(rows), "latents": file}
    output.report(
        out, facts, f"{counted(len(rows), 'image')} of {served.name}:{served.version} (latents of {file})", picture
    )


def _save_each(images: Iterator[NDArray[np.uint8]], folder: Path, count: int) -> None:
    """Saves each image as a file named after its row, zero-padded so that names sort."""
    digits = max(5, len(str(count - 1)))
    for row, image in enumerate(images):
        save_image(to_pil(image), folder / f"{row:0{digits}}.png")

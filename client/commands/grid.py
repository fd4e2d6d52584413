"""`ganclient grid`: many generated images in one picture."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from client.commands.latent_rows import MAX_IMAGES, check_picture_size, random_seed, scale_option, served_generator
from client.commands.model_options import model_options, seed_option
from client.commands.options import ConnectOptions, connection_options, whole_number, writable
from client.commands.picture_options import Output, output_options
from client.commands.progress import ImageProgress
from client.files.images import check_output, save_image
from ganserve.grids import fitting_scale, grid_columns, image_grid, labelled_lines, magnified
from ganserve.wording import counted


@click.command()
@model_options("generate")
@click.option(
    "--n", type=whole_number(1, MAX_IMAGES), metavar="INTEGER", default=64, show_default=True, help="Number of images."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="grid.png",
    show_default=True,
    callback=writable(check_output),
    help="Image file to write. The extension sets the format; missing folders are created.",
)
@seed_option
@click.option(
    "--columns",
    type=whole_number(1, MAX_IMAGES),
    metavar="INTEGER",
    help="Number of columns.  [default: a square grid]",
)
@scale_option()
@click.option("--labels", is_flag=True, help="Number the lines by their first image, if they are high enough.")
@output_options
@connection_options
def grid(
    model: str,
    n: int,
    out: Path,
    seed: int | None,
    version: int | str | None,
    columns: int | None,
    scale: int | None,
    labels: bool,
    output: Output,
    connect: ConnectOptions,
) -> None:
    """Generate images and save them as a grid in one picture."""
    seed = random_seed() if seed is None else seed
    chunks: list[NDArray[np.uint8]] = []
    with connect.client(model=model, version=version) as client, ImageProgress(model, n) as progress:
        served = served_generator(client, model, version)
        scale = scale or fitting_scale(served.height, served.width, n, columns)
        check_picture_size(served, n, scale)
        for chunk in client.generate_chunks(model, seed=seed, count=n, version=served.version):
            chunks.append(chunk.images)
            progress.add(len(chunk.images))
    picture = image_grid(magnified(np.concatenate(chunks), scale), columns)
    if labels:
        per_line = min(columns or grid_columns(n), n)
        picture = labelled_lines(picture, [str(first) for first in range(0, n, per_line)])
    save_image(picture, out)
    facts: dict[str, object] = {"model": model, "version": served.version, "images": n, "seed": seed}
    output.report(out, facts, f"{counted(n, 'image')} of {model}:{served.version} (seed {seed})", picture)

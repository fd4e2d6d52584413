"""`ganclient traverse`: a grid of images that shows the effect of single latent dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import click
import numpy as np
from PIL import Image

from client.commands.latent_rows import (
    check_one_source,
    check_picture_size,
    images_of,
    latents_of_file,
    latents_of_seed,
    random_seed,
    save_latents_option,
    scale_option,
    seed_options,
    served_generator,
)
from client.commands.model_options import model_options
from client.commands.options import ConnectOptions, connection_options, listed, number_of, whole_number, writable
from client.commands.picture_options import Output, output_options
from client.files.images import check_output, save_image
from client.files.latents import save_latents
from client.sdk.model_info import ModelInfo
from client.sdk.walks import traversal
from ganserve.grids import fitting_scale, image_grid, labelled_lines, magnified
from ganserve.traversal import USUAL_DIMENSIONS, USUAL_LATENTS, USUAL_VALUES, line_labels, usual_dimensions

_MAX_DIMENSION: Final = 1 << 20
_MAX_VALUE: Final = 1e30


@click.command()
@model_options("generate")
@seed_options
@click.option(
    "--n",
    type=whole_number(1, 1000),
    metavar="INTEGER",
    help=f"Number of latents, one per column.  [default: {USUAL_LATENTS}, or all in the file]",
)
@click.option(
    "--dims",
    type=listed(whole_number(0, _MAX_DIMENSION)),
    metavar="LIST",
    help="Dimensions to vary, counted from 0."
    f"  [default: {','.join(map(str, USUAL_DIMENSIONS))}; evenly spaced for smaller latents]",
)
@click.option(
    "--values",
    type=listed(number_of("numbers", -_MAX_VALUE, _MAX_VALUE)),
    metavar="LIST",
    default=",".join(f"{value:g}" for value in USUAL_VALUES),
    show_default=True,
    help="Values of each dimension.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="traversal.png",
    show_default=True,
    callback=writable(check_output),
    help="Image file to write; the extension sets the format.",
)
@click.option(
    "--labels/--no-labels", default=True, show_default=True, help="Label each row with its dimension and value."
)
@scale_option()
@save_latents_option
@output_options
@connection_options
def traverse(
    *,
    model: str,
    version: int | str | None,
    seed: int | None,
    latents: str | None,
    n: int | None,
    dims: tuple[int, ...] | None,
    values: tuple[float, ...],
    out: Path,
    labels: bool,
    scale: int | None,
    latents_out: Path | None,
    output: Output,
    connect: ConnectOptions,
) -> None:
    """Generate a grid that shows the effect of single dimensions.

    The grid has one column per latent, and one row per dimension and value: the images of all latents with that
    dimension set to that value. A LIST is separated by commas.
    """
    check_one_source({"--seed": seed, "--latents": latents})
    with connect.client(model=model, version=version) as client:
        served = served_generator(client, model, version)
        dimensions = _fitting(served, dims)
        if latents is None:
            seed = random_seed() if seed is None else seed
            columns = latents_of_seed(served, seed, USUAL_LATENTS if n is None else n)
        else:
            columns = latents_of_file(served, latents, n, "--n")
        count = len(dimensions) * len(values) * len(columns)
        scale = scale or fitting_scale(served.height, served.width, count, len(columns))
        check_picture_size(served, count, scale)
        rows = traversal(columns, dimensions, values)
        with closing(images_of(client, served, rows)) as images:
            sheet = image_grid(magnified(np.stack(list(images)), scale), len(columns))
    if labels:
        sheet = _labelled(sheet, dimensions, values)
    if latents_out is not None:
        save_latents(rows, latents_out)
    save_image(sheet, out)
    source = f"seed {seed}" if latents is None else f"latents of {latents}"
    facts: dict[str, object] = {
        "model": served.name,
        "version": served.version,
        "images": count,
        "lines": len(dimensions) * len(values),
        "columns": len(columns),
        "dimensions": dimensions,
        "values": values,
        "seed": seed,
        "latents": latents,
    }
    summary = (
        f"{len(dimensions) * len(values)}x{len(columns)} images of {served.name}:{served.version}, dimensions"
        f" {', '.join(map(str, dimensions))} at {', '.join(f'{value:g}' for value in values)} ({source})"
    )
    output.report(out, facts, summary, sheet)


def _fitting(served: ModelInfo, dimensions: Sequence[int] | None) -> Sequence[int]:
    """The dimensions to vary: the given ones, or a default that fits the model.

    Raises:
        click.BadParameter: The model does not have one of them.
    """
    if dimensions is None:
        dimensions = usual_dimensions(served.latent_dim)
        if dimensions != USUAL_DIMENSIONS:
            click.echo(
                f"{served.name}:{served.version} has latents of {served.latent_dim} numbers;"
                f" showing dimensions {', '.join(map(str, dimensions))}, evenly spaced",
                err=True,
            )
        return dimensions
    outside = [dimension for dimension in dimensions if dimension >= served.latent_dim]
    if outside:
        raise click.BadParameter(
            f"{outside[0]} is not a dimension of {served.name}:{served.version}; give 0 .. {served.latent_dim - 1}",
            param_hint="'--dims'",
        )
    return dimensions


def _labelled(sheet: Image.Image, dimensions: Sequence[int], values: Sequence[float]) -> Image.Image:
    labelled = labelled_lines(sheet, line_labels(dimensions, values))
    if labelled is sheet:
        click.echo("the images are too small for labels; give --scale 2 or more, or --no-labels", err=True)
    return labelled

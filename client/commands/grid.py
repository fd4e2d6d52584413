"""`ganclient grid`: one picture of many generated images."""

from __future__ import annotations

import secrets
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from client.commands.latent_rows import MAX_IMAGES, check_picture_size, served_generator
from client.commands.model_options import model_options, seed_option
from client.commands.number_types import whole_number
from client.commands.options import ConnectOptions, server_options, writable_picture
from client.commands.picture_options import Output, output_options
from client.commands.progress import ImageProgress
from client.files.images import save_image
from client.sdk.client import GanClient
from ganserve.grids import image_grid


@click.command()
@model_options("generate")
@click.option(
    "--n", type=whole_number(1, MAX_IMAGES), metavar="INTEGER", default=64, show_default=True, help="How many images."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="grid.png",
    show_default=True,
    callback=writable_picture,
    help="The image file to write; its extension names the format, and its folder is made if there is none.",
)
@seed_option
@click.option(
    "--columns",
    type=whole_number(1, MAX_IMAGES),
    metavar="INTEGER",
    help="How many images stand side by side.  [default: a square]",
)
@output_options
@server_options
def grid(
    model: str,
    n: int,
    out: Path,
    seed: int | None,
    version: int | None,
    columns: int | None,
    output: Output,
    connect: ConnectOptions,
) -> None:
    """Generates images and saves them as one picture, a grid."""
    seed = secrets.randbits(32) if seed is None else seed
    with connect.client() as client:
        check_picture_size(served_generator(client, model, version), n)
        images, served_version = _fetch(client, model, n, seed, version)
    picture = image_grid(images, columns)
    save_image(picture, out)
    noun = "image" if n == 1 else "images"
    facts: dict[str, object] = {"model": model, "version": served_version, "images": n, "seed": seed}
    output.tell(out, facts, f"{n} {noun} of {model}:{served_version} (seed {seed})", picture)


def _fetch(client: GanClient, model: str, count: int, seed: int, version: int | None) -> tuple[NDArray[np.uint8], int]:
    """The images, uint8 (count, height, width, channels), and the model's version; shows a bar if they take long."""
    parts: list[NDArray[np.uint8]] = []
    with ImageProgress(model, count) as progress:
        for chunk in client.generate_chunks(model, seed=seed, count=count, version=version):
            parts.append(chunk.images)
            version = chunk.version
            progress.advance(len(chunk.images))
    assert version is not None  # a count of at least 1 gives at least one chunk
    return np.concatenate(parts), version

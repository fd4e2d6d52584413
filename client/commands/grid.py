"""`ganclient grid`: one picture of many generated images."""

from __future__ import annotations

import secrets
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from client.commands.options import server_options, whole_number, writable_picture
from client.commands.progress import ImageProgress
from client.image_output import image_grid, save_image
from client.sdk import GanClient

MAX_IMAGES = 10_000


@click.command()
@click.option("--model", required=True, help="Name of a served model; 'ganclient models' lists them.")
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
@click.option(
    "--seed",
    type=whole_number(0, 2**64 - 1),
    metavar="INTEGER",
    help="The same seed gives the same images.  [default: a random one]",
)
@click.option(
    "--version",
    type=whole_number(1, 2**63 - 1),
    metavar="INTEGER",
    help="Version of the model.  [default: the newest that is served]",
)
@click.option(
    "--columns",
    type=whole_number(1, MAX_IMAGES),
    metavar="INTEGER",
    help="How many images stand side by side.  [default: a square]",
)
@server_options
def grid(
    model: str,
    n: int,
    out: Path,
    seed: int | None,
    version: int | None,
    columns: int | None,
    address: str,
    timeout_s: float,
) -> None:
    """Generates images and saves them as one picture, a grid."""
    seed = secrets.randbits(32) if seed is None else seed
    with GanClient(address, timeout_s=timeout_s) as client:
        images, served_version = _fetch(client, model, n, seed, version)
    save_image(image_grid(images, columns), out)
    noun = "image" if n == 1 else "images"
    click.echo(f"{click.format_filename(out)}: {n} {noun} of {model}:{served_version} (seed {seed})")


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

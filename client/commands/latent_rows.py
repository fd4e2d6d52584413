"""What the commands that send latents have in common: where the latents come from, and the images that come back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from client.commands.model_options import seed_option
from client.commands.number_types import whole_number
from client.commands.progress import ImageProgress
from client.errors import InvalidRequest, UnwritableOutput
from client.files.latents import check_latents_output, read_latents
from client.sdk.client import GanClient
from client.sdk.model_info import ModelInfo
from ganserve.latents import latents_from_seed

MAX_IMAGES: Final = 10_000
MAX_SCALE: Final = 64

_MAX_PICTURE_PIXELS: Final = 1 << 27  # of one picture; Pillow's own readers take more for an attack

_Command = TypeVar("_Command", bound=Callable[..., Any])


def scale_option(default: str = "1") -> Callable[[_Command], _Command]:
    """Adds --scale, None if it is not given; `default` is what that means, in words."""
    return click.option(
        "--scale",
        type=whole_number(1, MAX_SCALE),
        metavar="INTEGER",
        help=f"Magnify each image so many times, pixel by pixel.  [default: {default}]",
    )


def seed_options(command: _Command) -> _Command:
    """Adds --seed and --latents, which exclude each other."""
    latents = click.option(
        "--latents", metavar="FILE", help="Take the latents of this .npy, .npz, .json or .csv file instead of a seed."
    )
    return seed_option(latents(command))


def check_one_source(sources: dict[str, object]) -> None:
    """Checks that at most one of these flags is given.

    Raises:
        click.UsageError: several are.
    """
    given = [flag for flag, value in sources.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)}: give one of them; each says where the latents come from")


save_latents_option = click.option(
    "--save-latents",
    "latents_out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=lambda _context, _parameter, path: _checked_latents_output(path),
    help="Also save the latents of all images, as a .npy file; 'ganclient latents' makes the same images of it.",
)


def _checked_latents_output(path: Path | None) -> Path | None:
    if path is not None:
        try:
            check_latents_output(path)
        except UnwritableOutput as error:
            raise click.BadParameter(str(error)) from error
    return path


def random_seed() -> int:
    """A seed that is short enough to type again."""
    return secrets.randbits(32)


def served_generator(client: GanClient, model: str, version: int | None) -> ModelInfo:
    """The served model of this name, which makes images from latents; the newest version for None.

    Raises:
        InvalidRequest: it is for another task.
        GanClientError: it is not served, or the server does not answer.
    """
    served = client.info(model, version)
    if served.task != "generate":
        raise InvalidRequest(
            f"--model: {model!r:.80} makes no images from latents; 'ganclient models' lists those that do,"
            " and 'ganclient translate' is for those that take images"
        )
    return served


def latents_of_seed(served: ModelInfo, seed: int, count: int) -> NDArray[np.float32]:
    """The first `count` latents of a seed, (count, latent_dim).

    Raises:
        InvalidRequest: this client cannot draw the model's latents, or so many.
    """
    if served.latent_distribution not in ("normal", ""):
        raise InvalidRequest(
            f"--model: this client cannot draw the {served.latent_distribution!r:.40} latents of {served.name!r:.80};"
            " update it, or give --latents"
        )
    if count * served.latent_dim > 1 << 28:
        raise InvalidRequest(f"--model: {count} latents of {served.latent_dim} numbers are too many; ask for fewer")
    return latents_from_seed(seed, count, served.latent_dim)


def latents_of_file(served: ModelInfo, name: str, count: int | None = None, flag: str = "") -> NDArray[np.float32]:
    """The latents of a file, checked against what the model takes: all, or the first `count`, which `flag` names.

    Raises:
        InvalidRequest: they cannot be read, or do not fit.
    """
    latents = read_latents(name)
    if latents.shape[1] != served.latent_dim:
        raise InvalidRequest(
            f"{name}: its latents have {latents.shape[1]} numbers each, and {served.name}:{served.version} takes"
            f" {served.latent_dim}; give others, or name the model that they were made for"
        )
    if count is not None and count > len(latents):
        raise InvalidRequest(f"{flag}: {name} has only {len(latents)} of the {count}; ask for no more")
    return latents[:count]


def images_of(
    client: GanClient, served: ModelInfo, latents: NDArray[np.float32]
) -> Generator[NDArray[np.uint8], None, None]:
    """The image of each latent, in order, uint8 (height, width, channels); shows a bar if they take long.

    Raises:
        GanClientError: the server gives none.
    """
    with ImageProgress(served.name, len(latents)) as progress:
        for chunk in client.generate_chunks(served.name, latents=latents, version=served.version):
            yield from chunk.images
            progress.advance(len(chunk.images))


def magnified(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """(height, width, channels) with each pixel as a square of scale x scale."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def check_picture_size(served: ModelInfo, count: int, scale: int = 1) -> None:
    """Checks that a picture of so many images can be made, before any is asked for.

    Raises:
        InvalidRequest: it would be too large.
    """
    pixels = count * served.height * served.width * scale**2
    if count > MAX_IMAGES or pixels > _MAX_PICTURE_PIXELS:
        raise InvalidRequest(
            f"--out: {count} images of {served.width * scale}x{served.height * scale} are too many for one picture;"
            " ask for fewer, or for smaller ones"
        )

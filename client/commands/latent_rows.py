"""Shared by the commands that send latents: flags that name the latents, reading them, and fetching their images."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from client.commands.model_options import seed_option
from client.commands.options import whole_number, writable
from client.commands.progress import ImageProgress
from client.errors import InvalidRequest
from client.files.latents import check_latents_output, read_latents
from client.sdk.client import GanClient
from client.sdk.model_info import ModelInfo
from ganserve.latents import DISTRIBUTIONS, latents_from_seed

MAX_IMAGES: Final = 10_000
MAX_SCALE: Final = 64

_MAX_PICTURE_PIXELS: Final = 1 << 27  # in one picture; Pillow refuses to read larger ones

_Command = TypeVar("_Command", bound=Callable[..., Any])


def scale_option(default: str = "auto") -> Callable[[_Command], _Command]:
    """Adds --scale, which is None for "auto" and if it is not given; `default` describes that case in the help."""
    return click.option(
        "--scale",
        type=_scale,
        metavar="INTEGER|auto",
        help="Magnify each image by this factor, without smoothing; auto makes small images large enough to look at,"
        f" 1 keeps their pixels.  [default: {default}]",
    )


def _scale(text: str) -> int | None:
    """The type of --scale."""
    return None if text == "auto" else whole_number(1, MAX_SCALE)(text)


def seed_options(command: _Command) -> _Command:
    """Adds --seed and --latents, which are mutually exclusive."""
    latents = click.option(
        "--latents",
        metavar="FILE",
        help="Read the latents from a .npy, .npz, .json, .csv or .txt file instead of drawing them from --seed.",
    )
    return seed_option(latents(command))


def check_one_source(sources: dict[str, object]) -> None:
    """Checks that at most one of these flags is given.

    Raises:
        click.UsageError: More than one is given.
    """
    given = [flag for flag, value in sources.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)}: give only one of them; each is a source of latents")


save_latents_option = click.option(
    "--save-latents",
    "latents_out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=writable(check_latents_output),
    help="Also save the latents of all images to a .npy file, for 'ganclient latents'.",
)


def random_seed() -> int:
    """A random seed, short enough to type."""
    return secrets.randbits(32)


def served_generator(client: GanClient, model: str, version: int | str | None) -> ModelInfo:
    """The served model with this name, which must generate images from latents; version None is the default one.

    Raises:
        InvalidRequest: The model is for another task.
        GanClientError: The model is not served, or the server does not answer.
    """
    served = client.info(model, version)
    if served.task != "generate":
        raise InvalidRequest(
            f"--model: {model!r:.80} does not generate images from latents; name a model that does, or use"
            " 'ganclient translate'"
        )
    return served


def latents_of_seed(served: ModelInfo, seed: int, count: int) -> NDArray[np.float32]:
    """The first `count` latents of a seed, (count, latent_dim).

    Raises:
        InvalidRequest: The client does not know the model's latent distribution, or the count is too large.
    """
    if served.prior not in DISTRIBUTIONS:
        raise InvalidRequest(
            f"--model: this client cannot draw the {served.prior!r:.40} latents of {served.name!r:.80};"
            " update the client, or give --latents"
        )
    if count * served.latent_dim > 1 << 28:
        raise InvalidRequest(f"--model: {count} latents of {served.latent_dim} numbers are too many; ask for fewer")
    return latents_from_seed(seed, count, served.latent_dim, served.prior)


def latents_of_file(served: ModelInfo, name: str, count: int | None = None, flag: str = "") -> NDArray[np.float32]:
    """The latents in a file, (count, latent_dim): all of them, or the first `count`, the value of `flag`.

    Raises:
        InvalidRequest: The file cannot be read, its latents do not fit the model, or there are fewer than `count`.
    """
    latents = read_latents(name)
    if latents.shape[1] != served.latent_dim:
        raise InvalidRequest(
            f"{name}: its latents have {latents.shape[1]} numbers each, but {served.name}:{served.version} takes"
            f" {served.latent_dim}; name another file, or the model that the latents belong to"
        )
    if count is not None and count > len(latents):
        raise InvalidRequest(f"{flag}: at most {len(latents)} for {name}, not {count}")
    return latents[:count]


def images_of(
    client: GanClient, served: ModelInfo, latents: NDArray[np.float32]
) -> Generator[NDArray[np.uint8], None, None]:
    """Yields the image of each latent in order, uint8 (height, width, channels); shows a progress bar.

    Raises:
        GanClientError: The server fails or refuses the request.
    """
    with ImageProgress(served.name, len(latents)) as progress:
        for chunk in client.generate_chunks(served.name, latents=latents, version=served.version):
            yield from chunk.images
            progress.add(len(chunk.images))


def check_picture_size(served: ModelInfo, count: int, scale: int = 1) -> None:
    """Checks that one picture can hold `count` images, before any is requested.

    Raises:
        InvalidRequest: The picture would be too large.
    """
    pixels = count * served.height * served.width * scale**2
    if count > MAX_IMAGES or pixels > _MAX_PICTURE_PIXELS:
        raise InvalidRequest(
            f"--out: {count} images of {served.width * scale}x{served.height * scale} are too many for one picture;"
            " ask for fewer, or for smaller ones"
        )

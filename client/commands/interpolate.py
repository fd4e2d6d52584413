"""`ganclient interpolate`: images between two or more latents, as a strip or an animation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from client.commands.latent_rows import (
    MAX_IMAGES,
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
from client.commands.options import ConnectOptions, connection_options, whole_number
from client.commands.picture_options import Output, output_options
from client.errors import InvalidRequest, UnwritableOutput
from client.files.animation import (
    MAX_FRAMES_PER_SECOND,
    MIN_ANIMATION_SIDE,
    animation_scale,
    check_animation,
    is_animation_name,
    save_animation,
)
from client.files.animation import SUFFIXES as ANIMATION_SUFFIXES
from client.files.images import check_output, save_image
from client.files.latents import save_latents
from client.sdk.model_info import ModelInfo
from client.sdk.walks import walk
from ganserve.grids import fitting_scale, image_grid, magnified
from ganserve.wording import counted

_STRIP_STEPS: Final = 10
_ANIMATION_STEPS: Final = 40
_FRAMES_PER_SECOND: Final = 20
_MAX_ANIMATION_BYTES: Final = 1 << 30  # in memory: all frames of a GIF
_SEED: Final = whole_number(0, 2**64 - 1)
_PREVIEWED: Final = 8  # images in the preview of an animation


def _picture_or_animation(_context: click.Context, _parameter: click.Parameter, path: Path) -> Path:
    """Callback of a flag that names a picture or an animation to write."""
    try:
        if is_animation_name(path):
            check_animation(path)
        else:
            check_output(path)
    except UnwritableOutput as error:
        raise click.BadParameter(
            str(error).replace("use one of ", f"use one of {', '.join(ANIMATION_SUFFIXES)}, ")
        ) from error
    return path


@click.command()
@model_options("generate")
@seed_options
@click.option("--from-seed", type=_SEED, metavar="INTEGER", help="Start at the first image of this seed.")
@click.option("--to-seed", type=_SEED, metavar="INTEGER", help="End at the first image of this seed.")
@click.option(
    "--anchors",
    type=whole_number(2, 1000),
    metavar="INTEGER",
    help="Number of anchors from --seed or --latents.  [default: 2, or all in the file]",
)
@click.option(
    "--steps",
    type=whole_number(2, 1000),
    metavar="INTEGER",
    help="Number of images from one anchor to the next, including both."
    f"  [default: {_STRIP_STEPS}, or {_ANIMATION_STEPS} for a GIF or MP4]",
)
@click.option("--linear", is_flag=True, help="Use linear instead of spherical interpolation.")
@click.option("--loop", is_flag=True, help="Return to the first anchor, for a seamless loop.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="interpolation.png",
    show_default=True,
    callback=_picture_or_animation,
    help="File to write: a picture with one row of images per pair of anchors, or a .gif or .mp4 animation.",
)
@click.option(
    "--fps",
    type=whole_number(1, max(MAX_FRAMES_PER_SECOND.values())),
    metavar="INTEGER",
    help=f"Frames per second of a GIF or MP4.  [default: {_FRAMES_PER_SECOND}]",
)
@scale_option(f"auto, or enough for {MIN_ANIMATION_SIDE} pixels in a GIF or MP4")
@save_latents_option
@output_options
@connection_options
def interpolate(
    *,
    model: str,
    version: int | str | None,
    seed: int | None,
    latents: str | None,
    from_seed: int | None,
    to_seed: int | None,
    anchors: int | None,
    steps: int | None,
    linear: bool,
    loop: bool,
    out: Path,
    fps: int | None,
    scale: int | None,
    latents_out: Path | None,
    output: Output,
    connect: ConnectOptions,
) -> None:
    """Generate the images on a path between latents.

    The path passes through anchors: latents of one seed, the first latents of two seeds, or the latents in a file.
    """
    check_one_source({"--seed": seed, "--latents": latents, "--from-seed": from_seed})
    is_animation = is_animation_name(out)
    _check_flags(out, is_animation, from_seed, to_seed, anchors, fps)
    steps = steps or (_ANIMATION_STEPS if is_animation else _STRIP_STEPS)
    fps = fps or _FRAMES_PER_SECOND
    with connect.client(model=model, version=version) as client:
        served = served_generator(client, model, version)
        if latents is not None:
            stops = latents_of_file(served, latents, anchors, "--anchors")
            if len(stops) < 2:
                raise InvalidRequest(f"{latents}: holds 1 latent, but at least 2 are needed; add one, or give --seed")
            source = f"latents of {latents}"
        elif from_seed is not None and to_seed is not None:
            stops = np.concatenate([latents_of_seed(served, end, 1) for end in (from_seed, to_seed)])
            source = f"from seed {from_seed} to {to_seed}"
        else:
            seed = random_seed() if seed is None else seed
            stops = latents_of_seed(served, seed, anchors or 2)
            source = f"seed {seed}"
        legs = len(stops) if loop else len(stops) - 1
        if scale is None and is_animation:
            scale = animation_scale(served.width, served.height)
        scale = scale or fitting_scale(served.height, served.width, legs * steps, steps)
        _check_size(served, legs * steps, scale, is_animation)
        rows = walk(stops, steps, "linear" if linear else "spherical", loop=loop)
        with closing(images_of(client, served, rows)) as images:
            if is_animation:
                kept: list[NDArray[np.uint8]] = []
                save_animation(_frames(images, len(rows), scale, kept), out, fps)
                picture = image_grid(np.stack(kept), len(kept))
            else:
                picture = _strip([magnified(image, scale) for image in images], legs, steps)
    if latents_out is not None:
        save_latents(rows, latents_out)
    if not is_animation:
        save_image(picture, out)
    facts: dict[str, object] = {
        "model": served.name,
        "version": served.version,
        "images": len(rows),
        "anchors": len(stops),
        "steps": steps,
        "method": "linear" if linear else "spherical",
        "loop": loop,
        "seed": seed,
        "from_seed": from_seed,
        "to_seed": to_seed,
        "latents": latents,
        "fps": fps if is_animation else None,
    }
    seconds = f", {len(rows) / fps:.3g} s" if is_animation else ""
    count = counted(len(rows), "image")
    summary = f"{count} of {served.name}:{served.version} through {len(stops)} anchors{seconds} ({source})"
    output.report(out, facts, summary, picture)


def _check_flags(
    out: Path, is_animation: bool, from_seed: int | None, to_seed: int | None, anchors: int | None, fps: int | None
) -> None:
    """Checks the combination of flags.

    Raises:
        click.UsageError: The flags contradict each other.
    """
    if (from_seed is None) != (to_seed is None):
        raise click.UsageError("--from-seed and --to-seed: give both, or --seed alone")
    if from_seed is not None and anchors is not None:
        raise click.UsageError("--anchors: does not apply to --from-seed and --to-seed; leave it out")
    if fps is None:
        return
    if not is_animation:
        raise click.UsageError(f"--fps: applies to a GIF or MP4, not to {click.format_filename(out)}; leave it out")
    most = MAX_FRAMES_PER_SECOND[out.suffix.lower()]
    if fps > most:
        raise click.UsageError(f"--fps: at most {most} for a {out.suffix} file, not {fps}")


def _check_size(served: ModelInfo, count: int, scale: int, is_animation: bool) -> None:
    if not is_animation:
        check_picture_size(served, count, scale)
    elif count > MAX_IMAGES or count * served.width * served.height * scale**2 > _MAX_ANIMATION_BYTES:
        raise InvalidRequest(
            f"--steps: {count} images of {served.width * scale}x{served.height * scale} are too many for an animation;"
            " lower --steps or --scale"
        )


def _frames(
    images: Iterator[NDArray[np.uint8]], count: int, scale: int, kept: list[NDArray[np.uint8]]
) -> Iterator[NDArray[np.uint8]]:
    """Yields all images, magnified; adds some evenly spaced ones, not magnified, to `kept`."""
    wanted = set(np.linspace(0, count - 1, min(count, _PREVIEWED)).round().astype(int).tolist())
    for index, image in enumerate(images):
        if index in wanted:
            kept.append(image)
        yield magnified(image, scale)


def _strip(images: list[NDArray[np.uint8]], legs: int, steps: int) -> Image.Image:
    """A grid with one row per pair of anchors; the last image of a row is also the first of the next."""
    order = [(leg * (steps - 1) + step) % len(images) for leg in range(legs) for step in range(steps)]
    return image_grid(np.stack([images[index] for index in order]), steps)

"""The directions of latent space along which a generator's images change most.

GANSpace (Haerkoenen et al., 2020, arXiv:2004.02546) finds such directions by PCA of early activations. A client only
sees pixels, so this module uses the singular vectors of the generator's mean Jacobian, from latents to pixels; Ramesh
et al. (2018, arXiv:1812.01161) decompose Jacobians at single latents in the same way. For standard normal latents, the
mean Jacobian is the slope of the linear regression of images on latents (Stein's lemma: Stein, 1981, Annals of
Statistics 9(6)). Latents are drawn in pairs z and -z: half the difference of their images has the same slope, without
the noise of the even part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest
from ganserve.latents import DISTRIBUTIONS, NORMAL, latents_from_seed

MAX_DIRECTIONS: Final = 6
MAX_LATENT_DIM: Final = 1024

_SIDE: Final = 16  # pixels per side: larger images are averaged down to this
_CHUNK_PAIRS: Final = 32
_SEED: Final = 0x6A5E

Generate = Callable[[NDArray[np.float32]], Iterable[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Directions:
    """The result of `strongest_directions`.

    Attributes:
        vectors: float32 (directions, latent_dim), unit vectors, strongest first; images get brighter along each.
        shares: The share of each direction in the total linear response, 0 .. 1.
        linear: The share of the images' odd variance that is linear in the latent, 0 .. 1, adjusted for the fit.
    """

    vectors: NDArray[np.float32]
    shares: tuple[float, ...]
    linear: float


def pairs_for(latent_dim: int) -> int:
    """The number of pairs to sample: at least twice as many as the slope has numbers per pixel."""
    return min(2048, max(256, 4 * latent_dim))


def strongest_directions(
    generate: Generate,
    latent_dim: int,
    distribution: str = NORMAL,
    *,
    progress: Callable[[float], object] = lambda _: None,
) -> Directions:
    """Samples a generator and finds its strongest directions, in constant memory.

    Args:
        generate: Takes latents (rows, latent_dim), and yields their images in order, in parts: uint8 (rows, height,
            width, channels).
        latent_dim: The size of a latent.
        distribution: Of the latents. All distributions are symmetric, which the pairs need; for those this client does
            not know, the latents are normal.
        progress: Called with the fraction done, 0 .. 1.

    Raises:
        InvalidRequest: The latents are too large, or the images do not depend on them.
    """
    if latent_dim > MAX_LATENT_DIM:
        raise InvalidRequest(f"directions: latents of {latent_dim} are too large; the limit is {MAX_LATENT_DIM}")
    pairs = pairs_for(latent_dim)
    drawn = latents_from_seed(_SEED, pairs, latent_dim, distribution if distribution in DISTRIBUTIONS else NORMAL)
    gram: NDArray[np.float64] = np.zeros((latent_dim, latent_dim))
    cross: NDArray[np.float64] | None = None
    variance = 0.0
    for start in range(0, pairs, _CHUNK_PAIRS):
        part = drawn[start : start + _CHUNK_PAIRS]
        images = np.concatenate([small(images) for images in generate(np.concatenate([part, -part]))])
        odd = (images[: len(part)] - images[len(part) :]) / 2
        exact = part.astype(np.float64)
        gram += exact.T @ exact
        cross = exact.T @ odd if cross is None else cross + exact.T @ odd
        variance += float((odd**2).sum())
        progress(min(1.0, (start + len(part)) / pairs))
    assert cross is not None
    slope = np.linalg.solve(gram, cross)  # (latent_dim, pixels); there are more pairs than dimensions
    left, strengths, right = np.linalg.svd(slope, full_matrices=False)
    power = float((strengths**2).sum())
    if not power:
        raise InvalidRequest("directions: this model's images do not depend on the latent")
    found = min(MAX_DIRECTIONS, int((strengths > strengths[0] * 1e-6).sum()))
    brighter = np.where(right[:found].sum(axis=1) < 0, -1.0, 1.0)
    unexplained = 1 - float((slope * cross).sum()) / variance
    return Directions(
        vectors=(left[:, :found] * brighter).T.astype(np.float32),
        shares=tuple(float(strength**2 / power) for strength in strengths[:found]),
        linear=min(1.0, max(0.0, 1 - unexplained * pairs / (pairs - latent_dim))),
    )


def small(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Averages images (rows, height, width, channels) down to at most 16x16, and flattens them to (rows, values)."""
    values: NDArray[Any] = images.astype(np.float32)
    for axis in (1, 2):
        size = images.shape[axis]
        if size > _SIDE:
            starts = np.arange(_SIDE) * size // _SIDE
            widths = np.diff(np.append(starts, size))
            shape = [1, 1, 1, 1]
            shape[axis] = _SIDE
            values = np.add.reduceat(values, starts, axis=axis) / widths.reshape(shape).astype(np.float32)
    return values.reshape(len(images), -1).astype(np.float64)

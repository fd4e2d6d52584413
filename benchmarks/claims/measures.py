"""Groups of metrics of a generator at a snapshot, each a function of its samples, and their cache.

Images are rounded to 8 bits, as in a file, then scaled back to [-1, 1].
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.claims import spectra
from benchmarks.claims.evidence import Metrics
from benchmarks.claims.traversal import change_by_region, latent_effects
from ganserve.files import replace_file
from ganserve.latents import latents_from_seed
from trainer.data.datasets import to_unit_range
from trainer.metrics.classifier import FeatureNetwork
from trainer.metrics.diversity import ms_ssim_between
from trainer.metrics.frechet import frechet_distance
from trainer.metrics.neighbours import density_coverage, precision_recall

Group = Literal["pixels", "features", "latents"]

LATENT_SEED = 20_000  # of the samples of every snapshot: all generators get the same latents
SURE = 0.9  # a classifier is sure of an image if it gives one class a higher probability than this
_TRAVERSED = 64  # latents whose coordinates are moved
_PAIRED = 2_000  # features in the mean pairwise distance
_CHUNK = 256  # images per forward pass
_VERSION = 2  # of these measures; caches of other versions are ignored


@dataclass
class Reals:
    """The real images to compare generators of one data set and size with.

    Attributes:
        images: uint8 (N, C, H, W).
        find_network: returns the classifier of the data set; called when features are needed.
        identity: identifies the images in the cache key.
    """

    images: Tensor
    find_network: Callable[[], FeatureNetwork]
    identity: Mapping[str, Any]

    @cached_property
    def network(self) -> FeatureNetwork:
        """The classifier whose features are compared."""
        return self.find_network()

    @cached_property
    def pixels(self) -> NDArray[np.float32]:
        """The images in [-1, 1]."""
        return to_unit_range(self.images).numpy()

    @cached_property
    def laplacian_variance(self) -> float:
        """Mean over the images."""
        return float(spectra.laplacian_variance(self.pixels).mean())

    @cached_property
    def log_spectrum(self) -> NDArray[np.float64]:
        """See `spectra.log_spectrum`."""
        return spectra.log_spectrum(self.pixels)

    @cached_property
    def features(self) -> Tensor:
        """(N, D)."""
        return self.network.features(self.images)

    @cached_property
    def high_frequency_share(self) -> float:
        """See `spectra.high_frequency_share`."""
        return spectra.high_frequency_share(self.pixels)

    @cached_property
    def pairwise_distance(self) -> float:
        """See `_pairwise_distance`."""
        return _pairwise_distance(self.features)


def rounded(images: Tensor) -> Tensor:
    """Images in about [-1, 1] -> 8-bit pixels."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def _pixels(fakes: Tensor, reals: Reals, _generate: Callable[[Tensor], Tensor], _latent_dim: int) -> Metrics:
    images = to_unit_range(fakes).numpy()
    sharpness = float(spectra.laplacian_variance(images).mean())
    patterns = spectra.stripes_of(spectra.log_spectrum(images) - reals.log_spectrum)
    return {
        "laplacian_ratio": sharpness / reals.laplacian_variance,
        "high_frequency_share": spectra.high_frequency_share(images),
        "high_frequency_share_of_reals": reals.high_frequency_share,
        "diagonal_stripes_db": patterns.diagonal_db,
        "stride_peaks_db": patterns.stride_db,
        "ms_ssim": ms_ssim_between(fakes),
    }


def _features(fakes: Tensor, reals: Reals, _generate: Callable[[Tensor], Tensor], _latent_dim: int) -> Metrics:
    features = reals.network.features(fakes)
    precision, recall = precision_recall(reals.features, features)
    density, coverage = density_coverage(reals.features, features)
    metrics = {
        "frechet_distance": frechet_distance(reals.features, features),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "pairwise_distance": _pairwise_distance(features),
        "pairwise_distance_of_reals": reals.pairwise_distance,
    }
    if reals.network.metadata.task == "labels":
        metrics["sure_share"] = float((reals.network.probabilities(fakes).max(1).values > SURE).double().mean())
    return metrics


def _latents(fakes: Tensor, _reals: Reals, generate: Callable[[Tensor], Tensor], latent_dim: int) -> Metrics:
    start = torch.from_numpy(latents_from_seed(LATENT_SEED + 1, _TRAVERSED, latent_dim))
    effects = latent_effects(lambda latents: to_unit_range(generate(latents)), start)
    regions = {f"change_{name}": value for name, value in change_by_region(effects.map).items()}
    half = len(fakes) // 2
    apart = float((fakes[:half].float() - fakes[half : 2 * half].float()).abs().mean()) / 255
    return {
        "latent_change": float(effects.change.mean()),
        "latent_share": float(effects.change.mean()) / max(apart, 1e-6),
        "latent_changes": effects.change.tolist(),
        "latent_map": effects.map.tolist(),
    } | regions


_GROUPS: dict[Group, Callable[[Tensor, Reals, Callable[[Tensor], Tensor], int], Metrics]] = {
    "pixels": _pixels,
    "features": _features,
    "latents": _latents,
}


def measure(
    generator: nn.Module, latent_dim: int, reals: Reals, groups: tuple[Group, ...], cache: Path, device: torch.device
) -> Metrics:
    """The metrics of some groups, from the cache where possible.

    Args:
        generator: latents (N, latent_dim) -> images (N, C, H, W) in about [-1, 1], in eval mode.
        latent_dim: size of its latents.
        reals: to compare with; the generator makes the same number of fakes.
        groups: of metrics.
        cache: a folder of JSON files, named after weights and protocol; a damaged file is replaced.
        device: to generate on.
    """
    generator = generator.to(device)

    def generate(latents: Tensor) -> Tensor:
        with torch.inference_mode():
            chunks = torch.split(latents.to(device), _CHUNK)
            return rounded(torch.cat([generator(chunk).float().cpu() for chunk in chunks]))

    metrics: dict[str, Any] = {}
    weights = hashlib.sha256()
    for name, tensor in generator.state_dict().items():
        weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        weights.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    fakes: Tensor | None = None
    for group in groups:
        protocol = {
            "version": _VERSION,
            "group": group,
            "weights": weights.hexdigest(),
            "latent_seed": LATENT_SEED,
            "reals": dict(reals.identity),
            "network": reals.network.metadata.weights_sha256 if group == "features" else None,
        }
        key = hashlib.sha256(msgspec.json.encode(protocol, order="sorted")).hexdigest()
        path = cache / f"{key}.json"
        known = _read(path)
        if known is None:
            if fakes is None:
                latents = latents_from_seed(LATENT_SEED, len(reals.images), latent_dim)
                fakes = generate(torch.from_numpy(latents))
            known = _GROUPS[group](fakes, reals, generate, latent_dim)
            _write(path, known)
        metrics |= known
    return metrics


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics in a cache file."""

    numbers: dict[str, float]
    lists: dict[str, list[float]]
    maps: dict[str, list[list[float]]]


def _read(path: Path) -> Metrics | None:
    """Metrics of a cache file; None if it is missing or invalid."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return {**kept.numbers, **kept.lists, **kept.maps}


def _write(path: Path, metrics: Metrics) -> None:
    lists = {name: value for name, value in metrics.items() if isinstance(value, list)}
    maps = {name: value for name, value in lists.items() if value and isinstance(value[0], list)}
    kept = _Kept(
        {name: value for name, value in metrics.items() if name not in lists},
        {name: value for name, value in lists.items() if name not in maps},
        maps,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.encode(kept))


def _pairwise_distance(features: Tensor) -> float:
    """Mean Euclidean distance over all pairs of the first _PAIRED features."""
    return float(torch.pdist(features[:_PAIRED].double()).mean())

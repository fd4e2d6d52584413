"""Scores fakes against reals: the only place that computes metrics and records how they were measured.

Training, `python -m trainer.evaluate` and reports all call `score`, so equal protocols mean comparable metrics. All
images are 8-bit pixels, as a server sends them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from ganserve.metrics import METRICS
from trainer.errors import UserError
from trainer.metrics.classifier import FeatureNetwork
from trainer.metrics.diversity import scale_count, similarity_of_pairs
from trainer.metrics.frechet import frechet_distance, total_variance
from trainer.metrics.inception import (
    RESIZER,
    inception_distance,
    inception_features,
    kernel_distance,
    load_inception,
)
from trainer.metrics.modes import classes_of, divergence_from_uniform, modes_covered
from trainer.metrics.neighbours import (
    DENSITY_COVERAGE_NEIGHBOURS,
    PRECISION_RECALL_NEIGHBOURS,
    density_coverage,
    precision_recall,
)
from trainer.metrics.sliced_wasserstein import (
    DIRECTIONS,
    PATCHES_PER_IMAGE,
    Pyramid,
    distances_and_error,
)
from trainer.metrics.standard_errors import half_sample_errors, recorded
from trainer.progress import Progress

FEWEST_IMAGES: Final = DENSITY_COVERAGE_NEIGHBOURS + 1
CPU: Final = torch.device("cpu")

Metrics = dict[str, float]
Protocol = dict[str, Any]  # flat, for lines of JSON


@dataclass(frozen=True)
class Scores:
    """Metrics, and the protocol of their measurement."""

    metrics: Metrics
    protocol: Protocol

    @property
    def text(self) -> str:
        """The metrics in one line, for the user."""
        return ", ".join(f"{METRICS[name].label} {shown(value)}" for name, value in self.metrics.items())


@dataclass
class Comparison:
    """Fakes and reals, and lazily computed features that several measures share.

    Attributes:
        fakes: uint8 (N, C, H, W).
        reals: uint8 (M, C, H, W).
        split: of the reals, train or test.
        seed: of patches, directions and subsets.
        device: to compute on.
        classifier: returns the classifier of the data set; called only if a measure needs it.
        inception_weights: a file, for FID and KID.
        progress: output for the user.
    """

    fakes: Tensor
    reals: Tensor
    split: str = "train"
    seed: int = 0
    device: torch.device = CPU
    classifier: Callable[[], FeatureNetwork] | None = None
    inception_weights: Path | None = None
    progress: Progress = field(default_factory=Progress)

    @cached_property
    def network(self) -> FeatureNetwork:
        """The classifier of the data set."""
        if self.classifier is None:
            raise ValueError("this measure needs a classifier")
        return self.classifier()

    @cached_property
    def features(self) -> tuple[Tensor, Tensor]:
        """Features of reals and fakes in the classifier."""
        return self.network.features(self.reals), self.network.features(self.fakes)

    @cached_property
    def inception(self) -> tuple[Tensor, Tensor, str]:
        """Features of reals and fakes in Inception, and the hash of its weights."""
        if self.inception_weights is None:
            raise UserError("--measures fid, kid: give --inception-weights FILE as well")
        network, sha256 = load_inception(self.inception_weights, self.device)
        reals, fakes = (
            inception_features(network, images, self.device, self.progress) for images in (self.reals, self.fakes)
        )
        return reals, fakes, sha256

    def feature_protocol(self) -> Protocol:
        """Identifies the classifier."""
        metadata = self.network.metadata
        return {
            "feature_network": f"classifier of {metadata.classes} {metadata.task}, {metadata.image_size} pixels",
            "feature_sha256": metadata.weights_sha256,
            "feature_accuracy": metadata.accuracy,
            "feature_task": metadata.task,
        }

    def inception_protocol(self) -> Protocol:
        """Identifies the Inception weights."""
        return {"inception_sha256": self.inception[2], "inception_resizer": RESIZER}


Measurement = tuple[Metrics, Protocol]


def _swd(images: Comparison) -> Measurement:
    return _sliced(images, "sliced_wasserstein_distance", "levels", "pggan")


def _swd_mmgeneration(images: Comparison) -> Measurement:
    return _sliced(images, "sliced_wasserstein_distance_mmgeneration", "levels_mmgeneration", "mmgeneration")


def _sliced(images: Comparison, name: str, levels_name: str, pyramid: Pyramid) -> Measurement:
    count = min(len(images.reals), len(images.fakes))  # equal numbers, because sorted patches are paired
    reals, fakes = (each[:count].to(images.device) for each in (images.reals, images.fakes))
    levels, error = distances_and_error(reals, fakes, images.seed, pyramid=pyramid)
    protocol = {"swd_images": count, "swd_patches": PATCHES_PER_IMAGE, "swd_directions": DIRECTIONS}
    return {name: _mean(levels)}, {levels_name: levels} | protocol | recorded([name], [error])


def _ms_ssim(images: Comparison) -> Measurement:
    fakes, reals = (similarity_of_pairs(each.to(images.device)) for each in (images.fakes, images.reals))
    protocol = {
        "ms_ssim_pairs": fakes.pairs,
        "ms_ssim_scales": scale_count(min(images.fakes.shape[-2:])),
        "ms_ssim_window": "11 pixels, shrinking with the scale",
    }
    metrics = {"ms_ssim": fakes.mean, "ms_ssim_real": reals.mean}
    return metrics, protocol | recorded(list(metrics), [fakes.standard_error, reals.standard_error])


def _frechet(images: Comparison) -> Measurement:
    reals, _ = images.features
    protocol = images.feature_protocol() | {"feature_variance": total_variance(reals)}
    return _of_features(images, ["frechet_distance"], lambda real, fake: [frechet_distance(real, fake)], protocol)


def _precision_recall(images: Comparison) -> Measurement:
    protocol = images.feature_protocol() | {"precision_recall_neighbours": PRECISION_RECALL_NEIGHBOURS}
    return _of_features(images, ["precision", "recall"], precision_recall, protocol)


def _density_coverage(images: Comparison) -> Measurement:
    protocol = images.feature_protocol() | {"density_coverage_neighbours": DENSITY_COVERAGE_NEIGHBOURS}
    return _of_features(images, ["density", "coverage"], density_coverage, protocol)


def _of_features(
    images: Comparison,
    names: Sequence[str],
    measure: Callable[[Tensor, Tensor], Sequence[float]],
    protocol: Protocol,
) -> Measurement:
    """Metrics of the features of reals and fakes, and their standard errors."""
    reals, fakes = images.features
    errors = half_sample_errors(
        lambda real, fake: measure(reals[real], fakes[fake]), len(reals), len(fakes), images.seed
    )
    return dict(zip(names, measure(reals, fakes), strict=True)), protocol | recorded(names, errors)


def _modes(images: Comparison) -> Measurement:
    classes, count = classes_of(images.network, images.fakes)
    metrics = {
        "modes_covered": float(modes_covered(classes, count)),
        "modes_kl": divergence_from_uniform(classes, count),
    }
    return metrics, images.feature_protocol() | {"modes": count}


def _fid(images: Comparison) -> Measurement:
    reals, fakes, _ = images.inception
    return {"inception_fid": inception_distance(reals, fakes)}, images.inception_protocol()


def _kid(images: Comparison) -> Measurement:
    reals, fakes, _ = images.inception
    return {"inception_kid": kernel_distance(reals, fakes, images.seed)}, images.inception_protocol()


@dataclass(frozen=True)
class Measure:
    """Metrics that are computed together."""

    metrics: tuple[str, ...]
    run: Callable[[Comparison], Measurement]


MEASURES: Final[dict[str, Measure]] = {
    "swd": Measure(("sliced_wasserstein_distance",), _swd),
    "swd-mmgeneration": Measure(("sliced_wasserstein_distance_mmgeneration",), _swd_mmgeneration),
    "ms-ssim": Measure(("ms_ssim", "ms_ssim_real"), _ms_ssim),
    "frechet": Measure(("frechet_distance",), _frechet),
    "precision-recall": Measure(("precision", "recall"), _precision_recall),
    "density-coverage": Measure(("density", "coverage"), _density_coverage),
    "modes": Measure(("modes_covered", "modes_kl"), _modes),
    "fid": Measure(("inception_fid",), _fid),
    "kid": Measure(("inception_kid",), _kid),
}


def measure_of(metric: str) -> str:
    """The name of the measure that computes this metric."""
    return next(name for name, measure in MEASURES.items() if metric in measure.metrics)


def score(images: Comparison, measures: Sequence[str]) -> Scores:
    """Computes the named `MEASURES`. Leaves torch's global random state unchanged.

    Raises:
        UserError: too few images, the two sets differ in shape, or Inception is not available.
    """
    fakes, reals = images.fakes, images.reals
    if fakes.shape[1:] != reals.shape[1:]:
        made, wanted = ("x".join(map(str, each.shape[1:])) for each in (fakes, reals))
        raise UserError(f"--dataset: its images are {wanted} (channels, height, width), the images to score {made}")
    if min(len(fakes), len(reals)) < FEWEST_IMAGES:
        raise UserError(f"--images: {min(len(fakes), len(reals))} images are too few; give at least {FEWEST_IMAGES}")
    metrics: Metrics = {}
    protocol: Protocol = {
        **sizes_recorded(fakes),
        "real_images": len(reals),
        "fake_images": len(fakes),
        "split": images.split,
        "seed": images.seed,
        "pixels": "8 bits",
    }
    for name in measures:
        measured, how = MEASURES[name].run(images)
        metrics |= measured
        protocol |= how
    return Scores(metrics, protocol)


def sizes_recorded(images: Tensor) -> Protocol:
    """The size of images (N, C, H, W), named as in a config."""
    height, width = images.shape[-2:]
    return {"image_size": height} | ({"image_width": width} if width != height else {})


def unmeasurable(measures: Sequence[str]) -> Metrics:
    """NaN for every metric: the result for images that are not finite."""
    return {metric: math.nan for name in measures for metric in MEASURES[name].metrics}


def to_pixels(images: Tensor) -> Tensor:
    """Images in about [-1, 1] -> the uint8 pixels that a server sends: halves round to even, then clamped."""
    return torch.round((images + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)


def shown(value: float, error: float = math.nan) -> str:
    """A metric as text, with four significant digits or two decimals; whole numbers have none.

    With its standard error, both have as many decimals as give the error one digit, or two that begin with a 1.
    """
    if not math.isfinite(value):
        return "-"
    if math.isfinite(error) and error > 0:
        decimals = max(0, -math.floor(math.log10(error / 2)))
        return f"{value:.{decimals}f} \N{PLUS-MINUS SIGN} {error:.{decimals}f}"
    if float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4g}"


def _mean(levels: Sequence[float]) -> float:
    return sum(levels) / len(levels)

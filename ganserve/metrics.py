"""The metrics that an evaluation can measure and a card can hold, and how to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Better = Literal["smaller", "larger", "as real images"]

STANDARD_ERROR: Final = "_standard_error"  # ends the name of a metric's standard error in a protocol


@dataclass(frozen=True)
class Metric:
    """A number measured on images.

    Attributes:
        label: Short name, for tables.
        better: Which values are better; "as real images" means equal to the metric of real images.
        explanation: One line.
        source: The paper or program that defines it.
    """

    label: str
    better: Better
    explanation: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.label}: {self.meaning}"

    @property
    def meaning(self) -> str:
        """What it measures, and which values are better."""
        compared = (
            "best when equal to that of real images" if self.better == "as real images" else f"{self.better} is better"
        )
        return f"{self.explanation}, {compared}"


_PGGAN: Final = "Karras et al. 2018"
_FRECHET: Final = "Heusel et al. 2017"
_IMPROVED: Final = "Kynkäänniemi et al. 2019"
_RELIABLE: Final = "Naeem et al. 2020"
_MODES: Final = "Metz et al. 2017"
_FEATURES: Final = "in the features of the data set's classifier"

# Metrics of images made from latents.
GAN_METRICS: Final[dict[str, Metric]] = {
    "sliced_wasserstein_distance": Metric(
        "SWD", "smaller", "sliced Wasserstein distance x 1000 to real images of the same size", _PGGAN
    ),
    "sliced_wasserstein_distance_mmgeneration": Metric(
        "SWD (MMGeneration)",
        "smaller",
        "the same over MMGeneration's pyramid, which has gray borders, to compare with its published values",
        "MMGeneration",
    ),
    "ms_ssim": Metric("MS-SSIM", "as real images", "structural similarity between pairs of samples", _PGGAN),
    "ms_ssim_real": Metric("MS-SSIM of reals", "as real images", "the same between pairs of real images", _PGGAN),
    "frechet_distance": Metric("FD", "smaller", f"Frechet distance {_FEATURES}", _FRECHET),
    "precision": Metric("precision", "larger", f"share of samples near a real image {_FEATURES}", _IMPROVED),
    "recall": Metric("recall", "larger", f"share of real images near a sample {_FEATURES}", _IMPROVED),
    "density": Metric("density", "larger", f"how densely real images lie around samples {_FEATURES}", _RELIABLE),
    "coverage": Metric("coverage", "larger", f"share of real images with a sample nearby {_FEATURES}", _RELIABLE),
    "modes_covered": Metric("modes", "larger", "number of classes that a classifier finds among samples", _MODES),
    "modes_kl": Metric("modes KL", "smaller", "KL divergence of the classes of the samples from equal shares", _MODES),
    "inception_fid": Metric("FID", "smaller", "Frechet distance in the features of Inception v3", _FRECHET),
    "inception_kid": Metric("KID", "smaller", "kernel distance in the same features", "Bińkowski et al. 2018"),
}

_PAIRED: Final = "to their paired test images"

CYCLE_METRICS: Final[dict[str, Metric]] = {
    "paired_l1": Metric(
        "L1",
        "smaller",
        f"mean absolute error (0..1) of translated images {_PAIRED}, both directions; '-' without pairs",
    ),
    "paired_ms_ssim": Metric("MS-SSIM", "larger", f"similarity of translated images {_PAIRED}, both directions"),
    "cycle_l1": Metric(
        "cycle L1", "smaller", "mean absolute error (0..1) of images translated to the other domain and back"
    ),
    "identity_l1": Metric(
        "identity L1", "smaller", "mean absolute error (0..1) of images translated to their own domain"
    ),
}

# Also measured for translators; these never choose a checkpoint.
_DETAILS: Final[dict[str, Metric]] = {
    "paired_l1_ab": Metric("L1 a to b", "smaller", "one direction of L1"),
    "paired_l1_ba": Metric("L1 b to a", "smaller", "the other direction"),
    "paired_l1_unchanged": Metric("L1 unchanged", "smaller", "error of unchanged images, as a baseline"),
    "paired_ms_ssim_ab": Metric("MS-SSIM a to b", "larger", "one direction of MS-SSIM"),
    "paired_ms_ssim_ba": Metric("MS-SSIM b to a", "larger", "the other direction"),
    "paired_ms_ssim_unchanged": Metric("MS-SSIM unchanged", "larger", "similarity of unchanged images, as a baseline"),
}

METRICS: Final = GAN_METRICS | CYCLE_METRICS | _DETAILS

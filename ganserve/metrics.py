"""Every metric that an evaluation can have and a card can hold, and how to read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Better = Literal["smaller", "larger", "as real images"]


@dataclass(frozen=True)
class Metric:
    """One number that is measured of images.

    Attributes:
        label: short, for tables.
        better: which way leads to better images; "as real images": compare with the same of real images.
        explanation: one line.
        source: where it is from.
    """

    label: str
    better: Better
    explanation: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.label}: {self.meaning}"

    @property
    def meaning(self) -> str:
        """What it is, and which way is better."""
        compared = "to be as among real images" if self.better == "as real images" else f"{self.better} is better"
        return f"{self.explanation}, {compared}"


_PGGAN: Final = "Karras et al. 2018"
_FRECHET: Final = "Heusel et al. 2017"
_IMPROVED: Final = "Kynkäänniemi et al. 2019"
_RELIABLE: Final = "Naeem et al. 2020"
_FEATURES: Final = "in the features of the data set's classifier"

# What is measured of images that are made from latents; the first chooses the best checkpoint unless told otherwise.
GAN_METRICS: Final[dict[str, Metric]] = {
    "sliced_wasserstein_distance": Metric(
        "SWD", "smaller", "sliced Wasserstein distance x 1000 to real images of the same size", _PGGAN
    ),
    "sliced_wasserstein_distance_mmgeneration": Metric(
        "SWD (MMGeneration)",
        "smaller",
        "the same over MMGeneration's pyramid, whose borders are gray; for comparison with its published values",
        "MMGeneration",
    ),
    "ms_ssim": Metric("MS-SSIM", "as real images", "structural similarity between pairs of samples", _PGGAN),
    "ms_ssim_real": Metric("MS-SSIM of reals", "as real images", "the same between pairs of real images", _PGGAN),
    "frechet_distance": Metric("FD", "smaller", f"Frechet distance {_FEATURES}", _FRECHET),
    "precision": Metric("precision", "larger", f"share of samples that are near a real image {_FEATURES}", _IMPROVED),
    "recall": Metric("recall", "larger", f"share of real images that are near a sample {_FEATURES}", _IMPROVED),
    "density": Metric("density", "larger", f"how densely real images lie around samples {_FEATURES}", _RELIABLE),
    "coverage": Metric("coverage", "larger", f"share of real images that have a sample near {_FEATURES}", _RELIABLE),
    "inception_fid": Metric("FID", "smaller", "Frechet distance in the features of Inception v3", _FRECHET),
    "inception_kid": Metric("KID", "smaller", "kernel distance in the same features", "Bińkowski et al. 2018"),
}

_PAIRED: Final = "to their partners, test images in pairs"

CYCLE_METRICS: Final[dict[str, Metric]] = {
    "paired_l1": Metric(
        "L1",
        "smaller",
        f"mean absolute error (0..1) of translated test images {_PAIRED}, both directions, '-' where they are no pairs",
    ),
    "paired_ms_ssim": Metric("MS-SSIM", "larger", f"similarity of translated images {_PAIRED}, both directions"),
    "cycle_l1": Metric("cycle L1", "smaller", "mean absolute error (0..1) of test images that go there and back"),
    "identity_l1": Metric("identity L1", "smaller", "mean absolute error (0..1) of images that belong there already"),
}

# Measured of translators too, and never what chooses a checkpoint.
_DETAILS: Final[dict[str, Metric]] = {
    "paired_l1_ab": Metric("L1 a to b", "smaller", "one direction of L1"),
    "paired_l1_ba": Metric("L1 b to a", "smaller", "the other direction"),
    "paired_l1_unchanged": Metric("L1 unchanged", "smaller", "the error of leaving every image as it is, to beat"),
    "paired_ms_ssim_ab": Metric("MS-SSIM a to b", "larger", "one direction of MS-SSIM"),
    "paired_ms_ssim_ba": Metric("MS-SSIM b to a", "larger", "the other direction"),
    "paired_ms_ssim_unchanged": Metric("MS-SSIM unchanged", "larger", "of leaving every image as it is, to beat"),
}

METRICS: Final = GAN_METRICS | CYCLE_METRICS | _DETAILS

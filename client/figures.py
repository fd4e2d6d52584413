"""How to read the figures that cards hold, in the words of the trainer's catalogue, which a test compares them with.

Only to explain: a figure that is not here is shown under its own name.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Figure(NamedTuple):
    """A figure's short name, and what it measures."""

    label: str
    meaning: str


_FEATURES: Final = "in the features of the data set's classifier"
_PAIRED: Final = "to their partners, test images in pairs"
_AS_REAL: Final = "to be as among real images"

FIGURES: Final[dict[str, Figure]] = {
    "sliced_wasserstein_distance": Figure(
        "SWD", "sliced Wasserstein distance x 1000 to real images of the same size, smaller is better"
    ),
    "sliced_wasserstein_distance_mmgeneration": Figure(
        "SWD (MMGeneration)",
        "the same over MMGeneration's pyramid, whose borders are gray; for comparison with its published figures,"
        " smaller is better",
    ),
    "ms_ssim": Figure("MS-SSIM", f"structural similarity between pairs of samples, {_AS_REAL}"),
    "ms_ssim_real": Figure("MS-SSIM of reals", f"the same between pairs of real images, {_AS_REAL}"),
    "frechet_distance": Figure("FD", f"Frechet distance {_FEATURES}, smaller is better"),
    "precision": Figure("precision", f"share of samples that are near a real image {_FEATURES}, larger is better"),
    "recall": Figure("recall", f"share of real images that are near a sample {_FEATURES}, larger is better"),
    "density": Figure("density", f"how densely real images lie around samples {_FEATURES}, larger is better"),
    "coverage": Figure("coverage", f"share of real images that have a sample near {_FEATURES}, larger is better"),
    "inception_fid": Figure("FID", "Frechet distance in the features of Inception v3, smaller is better"),
    "inception_kid": Figure("KID", "kernel distance in the same features, smaller is better"),
    "paired_l1": Figure(
        "L1",
        f"mean absolute error (0..1) of translated test images {_PAIRED}, both directions, '-' where they are no"
        " pairs, smaller is better",
    ),
    "paired_ms_ssim": Figure(
        "MS-SSIM", f"similarity of translated images {_PAIRED}, both directions, larger is better"
    ),
    "cycle_l1": Figure(
        "cycle L1", "mean absolute error (0..1) of test images that go there and back, smaller is better"
    ),
    "identity_l1": Figure(
        "identity L1", "mean absolute error (0..1) of images that belong there already, smaller is better"
    ),
    "paired_l1_ab": Figure("L1 a to b", "one direction of L1, smaller is better"),
    "paired_l1_ba": Figure("L1 b to a", "the other direction, smaller is better"),
    "paired_l1_unchanged": Figure(
        "L1 unchanged", "the error of leaving every image as it is, to beat, smaller is better"
    ),
    "paired_ms_ssim_ab": Figure("MS-SSIM a to b", "one direction of MS-SSIM, larger is better"),
    "paired_ms_ssim_ba": Figure("MS-SSIM b to a", "the other direction, larger is better"),
    "paired_ms_ssim_unchanged": Figure(
        "MS-SSIM unchanged", "of leaving every image as it is, to beat, larger is better"
    ),
}

"""The names of the measures of scorer.py, and those that a command uses by default. Without torch, for help texts."""

from __future__ import annotations

from typing import Final

CHEAP_MEASURES: Final = ("swd", "ms-ssim")
TRAINING_MEASURES: Final = (*CHEAP_MEASURES, "frechet", "precision-recall")
DEFAULT_MEASURES: Final = (*TRAINING_MEASURES, "density-coverage")
LABEL_MEASURES: Final = ("modes",)
INCEPTION_MEASURES: Final = ("fid", "kid")
MEASURE_NAMES: Final = (
    "swd",
    "swd-mmgeneration",
    "ms-ssim",
    "frechet",
    "precision-recall",
    "density-coverage",
    *LABEL_MEASURES,
    *INCEPTION_MEASURES,
)
MOST_IMAGES: Final = 10_000  # of an evaluation that gives no number

"""Which metrics can choose the best checkpoint, and which of two values is better. ganserve/metrics.py defines them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ganserve.metrics import CYCLE_METRICS, GAN_METRICS, METRICS, Metric
from trainer.errors import UserError

NEED_WEIGHTS: Final = {"inception_fid", "inception_kid"}
_ONLY_AFTERWARDS: Final = {"modes_covered", "modes_kl"}  # need labels and many images
_BASELINE: Final = "_unchanged"  # metrics of unchanged images depend on the data alone, so no run is best at them


def choosing_metrics(*, latents: bool) -> dict[str, Metric]:
    """The metrics that can choose the best checkpoint of a GAN, or else of a CycleGAN."""
    metrics = GAN_METRICS if latents else CYCLE_METRICS
    return {name: metric for name, metric in metrics.items() if has_best(name) and name not in _ONLY_AFTERWARDS}


def check_choosing(name: str, *, latents: bool, inception: bool) -> None:
    """Checks that a metric can choose the best checkpoint; `inception`: evaluations measure FID and KID.

    Raises:
        UserError: it cannot.
    """
    choices = choosing_metrics(latents=latents)
    if name not in choices:
        raise UserError(f"--best-by {name!r}: choose one of {', '.join(choices)}")
    if name in NEED_WEIGHTS and not inception:
        raise UserError(f"--best-by {name}: give --inception-weights FILE as well")


def has_best(name: str) -> bool:
    """Whether smaller or larger values of a metric are better."""
    metric = METRICS.get(name)
    return metric is not None and metric.better != "as real images" and not name.endswith(_BASELINE)


def is_better(name: str, value: float, other: float) -> bool:
    """Whether `value` is better than `other`; False for a metric that has no best."""
    return has_best(name) and (value < other if METRICS[name].better == "smaller" else value > other)


def is_best(name: str, value: float, others: Iterable[float]) -> bool:
    """Whether no other value is better; False for a metric that has no best."""
    return has_best(name) and not any(is_better(name, other, value) for other in others)

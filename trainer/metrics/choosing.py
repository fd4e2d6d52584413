"""Which metrics can choose the best checkpoint; what each is stands in ganserve/metrics.py."""

from __future__ import annotations

from typing import Final

from ganserve.metrics import CYCLE_METRICS, GAN_METRICS, Metric
from trainer.errors import UserError

_NEED_WEIGHTS: Final = {"inception_fid", "inception_kid"}


def choosing_metrics(*, latents: bool) -> dict[str, Metric]:
    """Those that can choose the best checkpoint of a network on latents, or else of translators; the default first."""
    metrics = GAN_METRICS if latents else CYCLE_METRICS
    return {
        name: metric
        for name, metric in metrics.items()
        if metric.better != "as real images" and name not in _NEED_WEIGHTS
    }


def choosing_metric(best_by: str, *, latents: bool) -> str:
    """The name of the metric that `best_by` means; "" is the default.

    Raises:
        UserError: it cannot choose.
    """
    choices = choosing_metrics(latents=latents)
    if best_by and best_by not in choices:
        raise UserError(f"--best-by {best_by!r}: choose one of {', '.join(choices)}")
    return best_by or next(iter(choices))

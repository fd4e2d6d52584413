"""Which figures can choose the best checkpoint; what each is stands in ganserve/figures.py."""

from __future__ import annotations

from typing import Final

from ganserve.metrics import CYCLE_FIGURES, GAN_FIGURES, Figure
from trainer.errors import UserError

_NEED_WEIGHTS: Final = {"inception_fid", "inception_kid"}


def choosing_figures(*, latents: bool) -> dict[str, Figure]:
    """Those that can choose the best checkpoint of a network on latents, or else of translators; the default first."""
    figures = GAN_FIGURES if latents else CYCLE_FIGURES
    return {
        name: figure
        for name, figure in figures.items()
        if figure.better != "as real images" and name not in _NEED_WEIGHTS
    }


def choosing_figure(best_by: str, *, latents: bool) -> str:
    """The name of the figure that `best_by` means; "" is the default.

    Raises:
        UserError: it cannot choose.
    """
    choices = choosing_figures(latents=latents)
    if best_by and best_by not in choices:
        raise UserError(f"--best-by {best_by!r}: choose one of {', '.join(choices)}")
    return best_by or next(iter(choices))

"""Whether bf16 changes training: its curves against those of fp32, over several seeds.

    python -m benchmarks.precision_spread [--model dcgan] [--preset dcgan-digits] [--steps 600] [--seeds 4] [--out FILE]

Each curve is averaged over windows of steps. A row gives the distance between the means over the bf16 and the fp32
seeds, in standard deviations over the fp32 seeds: up to about 1, other seeds would differ as much. Few seeds may agree
by chance, which makes any distance many deviations. So the output also has the values in the window with the largest
distance, and that distance in units of the curve's typical deviation (the root mean square over its windows). A growing
network spends equal shares of the steps on each phase.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import click
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import report
from trainer.config import AnyConfig, override
from trainer.errors import UserError
from trainer.models.growth import total_images
from trainer.parallel import choose_device
from trainer.presets import choose_preset
from trainer.progress import Progress
from trainer.training.base import Training
from trainer.training.kinds import load_with_config, new_training

WINDOWS = 10

Curves: TypeAlias = dict[str, NDArray[np.float64]]


def curves_of(training: Training, steps: int) -> Curves:
    """Trains; returns each curve as means over windows, (WINDOWS,), and each final metric as one value, (1,)."""
    values: dict[str, list[float]] = {}
    for step in range(steps):
        for name, value in training.train_step(step / steps).items():
            values.setdefault(name, []).append(np.nan if value is None else value.item())
    means = {
        name: np.array([np.nanmean(window) for window in np.array_split(np.array(curve), WINDOWS)])
        for name, curve in values.items()
        if not np.isnan(curve).all()
    }
    return means | {name: np.array([metric]) for name, metric in training.evaluate().metrics.items()}


def with_growth_in(config: AnyConfig, steps: int) -> AnyConfig:
    """The config; a growing network gets equally many steps per phase, all at one batch size."""
    if config.growth is None:
        return config
    one_image_each = msgspec.structs.replace(config.growth, stabilise_images=1, fade_images=1, batch_sizes={})
    phases = total_images(one_image_each, config.network.image_size)
    images = max(1, steps * config.batch_size // phases)
    return override(
        config, {"growth": msgspec.structs.replace(one_image_each, stabilise_images=images, fade_images=images)}
    )


@dataclass(frozen=True)
class Apart:
    """How far two sets of curves are apart, in standard deviations over seeds."""

    median: float  # over windows, each in its own deviation
    largest: float  # over windows, each in its own deviation
    window: int  # its index
    largest_typical: float  # over windows, in the curve's typical deviation


def compare(exact: NDArray[np.float64], reduced: NDArray[np.float64]) -> Apart:
    """Compares two sets of curves (seeds, windows); deviations are those of the first over seeds."""
    spread = exact.std(axis=0, ddof=1)
    tiny = np.finfo(float).eps
    distance = np.abs(reduced.mean(axis=0) - exact.mean(axis=0))
    apart = distance / np.maximum(spread, tiny)
    typical = max(float(np.sqrt(np.mean(spread**2))), tiny)
    return Apart(float(np.median(apart)), float(apart.max()), int(apart.argmax()), float(distance.max()) / typical)


@click.command()
@click.option("--model", default="dcgan", show_default=True)
@click.option("--preset", default="dcgan-digits", show_default=True)
@click.option("--data-root", default="data", show_default=True, help="Folder of mnist and fashion-mnist.")
@click.option("--steps", type=click.IntRange(WINDOWS), default=600, show_default=True)
@click.option("--seeds", type=click.IntRange(2), default=4, show_default=True)
@click.option("--eval-images", type=click.IntRange(2), help="Images per evaluation.  [default: the preset's]")
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(
    model: str,
    preset: str,
    data_root: str,
    steps: int,
    seeds: int,
    eval_images: int | None,
    device: str,
    out: Path | None,
) -> None:
    """Trains a preset in both precisions with several seeds."""
    where = choose_device(device)
    try:
        chosen = override(choose_preset(model, preset, None), {"data_root": data_root})
        chosen = override(chosen, {"evaluation_images": eval_images or chosen.evaluation_images})
        config, data = load_with_config(with_growth_in(chosen, steps), Progress())
    except UserError as error:
        raise click.ClickException(str(error)) from error
    found: dict[str, list[Curves]] = {"fp32": [], "bf16": []}
    for seed in range(seeds):
        for precision, curves in found.items():
            torch.manual_seed(seed)
            began_s = time.monotonic()
            training = new_training(override(config, {"precision": precision, "seed": seed}), data, where)
            curves.append(curves_of(training, steps))
            click.echo(f"seed {seed}, {precision}: {time.monotonic() - began_s:.0f} s")
    rows: list[dict[str, Any]] = []
    for name in found["fp32"][0]:
        exact, reduced = (np.stack([curves[name] for curves in found[precision]]) for precision in ("fp32", "bf16"))
        if np.ptp(np.concatenate([exact, reduced]), axis=0).max() == 0:
            continue  # independent of training, such as a resolution
        apart = compare(exact, reduced)
        rows.append(
            {
                "curve": name,
                "fp32 at the end": exact[:, -1].mean().item(),
                "its spread": exact[:, -1].std(ddof=1).item(),
                "bf16 at the end": reduced[:, -1].mean().item(),
                "bf16's spread": reduced[:, -1].std(ddof=1).item(),
                "apart, median": apart.median,
                "apart, max": apart.largest,
                "of typical": apart.largest_typical,
            }
        )
        if len(exact[0]) > 1:
            first, second = exact[:, apart.window], reduced[:, apart.window]
            click.echo(
                f"{name} differs most in window {apart.window + 1} of {WINDOWS}:"
                f" fp32 {np.round(first, 4).tolist()}, bf16 {np.round(second, 4).tolist()}"
            )
    report(f"{model} ({preset}) on {where}, {steps} steps, {seeds} seeds; apart: in standard deviations", rows, out)


if __name__ == "__main__":
    main()

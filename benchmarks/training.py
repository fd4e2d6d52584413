"""Training speed of every model and preset: real images per second over complete steps, networks at full width.

    python -m benchmarks.training [--model M] [--preset P] [--max-size 64] [--seconds 5] [--rounds 3] [--out FILE]

The data are random images. A GAN that grows is measured at every size, fully faded in. Rounds are interleaved over the
presets; the report has medians.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.report import report
from trainer.config import AnyConfig, override
from trainer.data.datasets import ImageData
from trainer.data.unpaired import UnpairedData
from trainer.models.growth import GrowthConfig
from trainer.parallel import choose_device
from trainer.presets import PRESETS
from trainer.training.base import Training
from trainer.training.kinds import Data, new_training


def sizes(config: AnyConfig, max_size: int) -> list[int]:
    """The image sizes at which to measure a preset: its own, or all that it grows through."""
    largest = config.network.image_size
    if config.growth is not None:
        every = (config.growth.start_resolution << doublings for doublings in range(9))
        return [size for size in every if size <= min(largest, max_size)]
    return [largest] if largest <= max_size else []


def random_data(config: AnyConfig) -> Data:
    """One batch of noise."""
    size, channels = config.network.image_size, config.network.channels
    images = torch.randint(0, 256, (config.batch_size, channels, size, size), dtype=torch.uint8)
    if config.takes_latents:
        return ImageData("noise", images)
    return UnpairedData("noise", images, images, images[:0], images[:0], test_is_paired=False)


def training_at(config: AnyConfig, size: int, device: torch.device) -> Training:
    """A training whose generator makes images of this size."""
    if config.growth is not None:
        # One image per size and no fade: the number of images seen is the number of doublings.
        growth = GrowthConfig(stabilise_images=1, fade_images=0, batch_sizes=config.growth.batch_sizes)
        config = override(config, {"network.image_size": max(8, size), "growth": growth})
        training = new_training(config, random_data(config), device)
        training.state.images_seen = (size // growth.start_resolution).bit_length() - 1
        return training
    return new_training(config, random_data(config), device)


def images_per_second(training: Training, steps: int, seconds: float) -> float:
    """Runs multiples of `steps` steps for about `seconds`, so that generator updates are counted in full."""
    state = training.state

    def synchronise() -> None:
        if state.device.type == "cuda":
            torch.cuda.synchronize()

    seen = state.images_seen  # reset after each step, so that the network does not grow
    synchronise()
    began = time.perf_counter()
    images = 0
    while time.perf_counter() - began < seconds:
        for _ in range(steps):
            images += training.batch_size
            training.train_step(0.0)
            state.images_seen = seen
        synchronise()
    return images / (time.perf_counter() - began)


@click.command()
@click.option("--model", help="Only this model.")
@click.option("--preset", help="Only presets of this id.")
@click.option("--max-size", type=int, default=64, show_default=True, help="Largest image size in pixels.")
@click.option("--seconds", type=float, default=5.0, show_default=True, help="Seconds per measurement.")
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(
    model: str | None, preset: str | None, max_size: int, seconds: float, rounds: int, device: str, out: Path | None
) -> None:
    """Measures the training speed of every preset."""
    where = choose_device(device)
    cells: dict[tuple[str, str, int], tuple[Training, int]] = {}
    for (owner, name), entry in PRESETS.items():
        wanted = model in {None, owner} and preset in {None, name}
        for size in sizes(entry.config, max_size) if wanted else []:
            torch.manual_seed(0)
            training = training_at(entry.config, size, where)
            cells[owner, name, size] = training, getattr(entry.config, "n_critic", 1)
    if not cells:
        raise click.UsageError("no preset fits --model, --preset and --max-size")
    for training, _ in cells.values():
        images_per_second(training, 1, 0.001)  # warm-up
    figures: dict[tuple[str, str, int], list[float]] = {key: [] for key in cells}
    for number in range(rounds):
        for key, (training, steps) in cells.items():
            figures[key].append(images_per_second(training, steps, seconds))
            click.echo(f"round {number + 1}: {key[0]} {key[1]} {key[2]}px: {figures[key][-1]:.4g} images/s")
    rows: list[dict[str, Any]] = [
        {
            "model": owner,
            "preset": name,
            "image": f"{size}x{size}",
            "batch": cells[owner, name, size][0].batch_size,
            "images/s": float(f"{statistics.median(values):.3g}"),
            "lowest": float(f"{min(values):.3g}"),
            "highest": float(f"{max(values):.3g}"),
        }
        for (owner, name, size), values in figures.items()
    ]
    report(f"training on {where}, median of {rounds} x {seconds:g} s", rows, out)


if __name__ == "__main__":
    main()

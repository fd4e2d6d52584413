"""Training speed against the loop of the PyTorch tutorial: same networks, batch and machine, interleaved in one run.

    python -m benchmarks.train_throughput [--preset dcgan64-k4] [--seconds 10] [--rounds 3] [--device auto] [--out FILE]

The data are random pictures: PNG files for the tutorial's DataLoader, and the same pixels in memory for the trainer,
which decodes a data set once.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image
from torch import Tensor

from benchmarks.report import report
from benchmarks.tutorial_loop import PictureFiles, TutorialLoop
from trainer.config import GanConfig, override
from trainer.data.datasets import ImageData
from trainer.parallel import choose_device
from trainer.presets import PRESETS
from trainer.training.kinds import new_training

PRESET_NAMES = ("dcgan64-k4", "dcgan-fmnist32")
_LOG_EVERY_STEPS = 50

Measure = Callable[[float], float]
"""Trains for about this many seconds and returns images per second."""


def config_of(preset: str) -> GanConfig:
    """A preset of `dcgan`."""
    config = PRESETS["dcgan", preset].config
    assert isinstance(config, GanConfig)
    return config


def write_pictures(images: Tensor, folder: Path) -> None:
    """Writes uint8 images (N, C, H, W) as PNG files."""
    for index, image in enumerate(images.permute(0, 2, 3, 1).squeeze(-1).numpy()):
        Image.fromarray(image).save(folder / f"{index:05d}.png")


def tutorial(config: GanConfig, folder: Path, device: torch.device) -> Measure:
    """The tutorial's loop on the files in a folder."""
    data = PictureFiles(folder, config.network.image_size, config.network.channels)
    loop = TutorialLoop(config, device)
    return lambda seconds: loop.images_per_second(data, config.batch_size, seconds)


def ours(config: GanConfig, images: Tensor, device: torch.device) -> Measure:
    """The trainer's steps; measurements are read as often as its loop reads them."""
    training = new_training(config, ImageData("noise", images), device)

    def measure(seconds: float) -> float:
        for _ in range(2):
            training.train_step(0.0)
        _read([training.train_step(0.0)])
        pending: list[Any] = []
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            pending.append(training.train_step(0.0))
            count += config.batch_size
            if len(pending) == _LOG_EVERY_STEPS:
                _read(pending)
        _read(pending)
        return count / (time.perf_counter() - began)

    return measure


def _read(pending: list[Any]) -> None:
    """Reads the values, which waits for the device."""
    for measured in pending:
        for value in measured.values():
            if value is not None:
                value.item()
    pending.clear()


@click.command()
@click.option("--preset", "presets", multiple=True, default=PRESET_NAMES, show_default=True)
@click.option("--pictures", type=click.IntRange(1), default=2560, show_default=True, help="Pictures in the data set.")
@click.option("--width", type=float, default=1.0, show_default=True, help="Scale the networks' channel counts.")
@click.option("--batch-size", type=click.IntRange(1), help="Images per step.  [default: the preset's]")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Seconds per measurement.")
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--compile", "is_compiled", is_flag=True, help="Also measure the trainer with --compile, in bf16.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(
    presets: tuple[str, ...],
    pictures: int,
    width: float,
    batch_size: int | None,
    seconds: float,
    rounds: int,
    device: str,
    is_compiled: bool,
    out: Path | None,
) -> None:
    """Compares the tutorial's loop with the trainer in fp32 and in bf16."""
    where = choose_device(device)
    rows: list[dict[str, Any]] = []
    for preset in presets:
        config = config_of(preset)
        batch = batch_size or config.batch_size
        if pictures < batch:
            raise click.BadParameter(f"{pictures} do not fill one batch of {batch}", param_hint="--pictures")
        config = override(config, {"network.width": config.network.width * width, "batch_size": batch})
        network = config.network
        generator = torch.Generator().manual_seed(0)
        shape = (pictures, network.channels, network.image_size, network.image_size)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        with tempfile.TemporaryDirectory() as folder:
            write_pictures(images, Path(folder))
            cells = {"tutorial": tutorial(config, Path(folder), where)}
            settings: dict[str, dict[str, Any]] = {name: {"precision": name} for name in ("fp32", "bf16")}
            if is_compiled:
                settings["bf16, compiled"] = {"precision": "bf16", "compile_networks": True}
            for name, changed in settings.items():
                cells[f"ours, {name}"] = ours(override(config, changed), images, where)
            figures: dict[str, list[float]] = {name: [] for name in cells}
            for number in range(rounds):
                for name, measure in cells.items():
                    figures[name].append(measure(seconds))
                    click.echo(f"round {number + 1}: {preset}, {name}: {figures[name][-1]:.4g} images/s")
        baseline = statistics.median(figures["tutorial"])
        rows += [
            {
                "preset": preset,
                "loop": name,
                "batch": config.batch_size,
                "images/s": float(f"{statistics.median(values):.4g}"),
                "lowest": float(f"{min(values):.4g}"),
                "highest": float(f"{max(values):.4g}"),
                "relative to tutorial": statistics.median(values) / baseline,
            }
            for name, values in figures.items()
        ]
    report(f"DCGAN training on {where}, median of {rounds} x {seconds:g} s", rows, out)


if __name__ == "__main__":
    main()

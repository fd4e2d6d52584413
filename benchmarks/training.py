"""Training speed of every model and preset: images a second through whole steps, networks at full width.

    python -m benchmarks.training [--model dcgan] [--seconds 5] [--rounds 3] [--out training.json]

Random images stand in for data. Rounds are interleaved over the presets, and the median is reported.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.report import report
from trainer.config import TrainConfig
from trainer.loop import choose_device
from trainer.presets import PRESETS
from trainer.step import TrainingState, new_state, train_step


def images_per_second(state: TrainingState, config: TrainConfig, reals: torch.Tensor, seconds: float) -> float:
    """Runs whole steps for about `seconds`; always a multiple of n_critic, so that each share of work is counted."""

    def synchronise() -> None:
        if state.device.type == "cuda":
            torch.cuda.synchronize()

    synchronise()
    began = time.perf_counter()
    images = 0
    while time.perf_counter() - began < seconds:
        for _ in range(config.n_critic):
            train_step(state, config, reals)
            images += len(reals)
        synchronise()
    return images / (time.perf_counter() - began)


@click.command()
@click.option("--model", help="Only this model.")
@click.option("--seconds", type=float, default=5.0, show_default=True, help="For one measurement.")
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file to write.")
def main(model: str | None, seconds: float, rounds: int, device: str, out: Path | None) -> None:
    """Measures training steps of every preset, side by side."""
    where = choose_device(device)
    entries = {}
    for (owner, name), preset in PRESETS.items():
        if model in {None, owner}:
            config, network = preset.config, preset.config.network
            torch.manual_seed(0)
            shape = (config.batch_size, network.channels, network.image_size, network.image_size)
            entries[owner, name] = (config, new_state(config, where), torch.rand(shape, device=where) * 2 - 1)
    for config, state, reals in entries.values():  # warm-up
        train_step(state, config, reals)
    figures: dict[tuple[str, str], list[float]] = {key: [] for key in entries}
    for number in range(rounds):
        for key, (config, state, reals) in entries.items():
            figures[key].append(images_per_second(state, config, reals, seconds))
            click.echo(f"round {number + 1}: {key[0]} {key[1]}: {figures[key][-1]:.0f} images/s")
    rows: list[dict[str, Any]] = [
        {
            "model": owner,
            "preset": name,
            "image": f"{entries[owner, name][0].network.image_size}x{entries[owner, name][0].network.image_size}",
            "batch": entries[owner, name][0].batch_size,
            "images/s": round(statistics.median(values)),
            "lowest": round(min(values)),
            "highest": round(max(values)),
        }
        for (owner, name), values in figures.items()
    ]
    report(f"training on {where}, median of {rounds} x {seconds:g} s", rows, out)


if __name__ == "__main__":
    main()

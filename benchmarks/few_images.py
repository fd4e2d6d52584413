"""What augmentation gives on few images: a DCGAN trained on subsets of a data set, with and without --augment.

    python -m benchmarks.few_images --dataset mnist --counts 100,500,2000 [--steps 1500] [--seeds 3] [--out FILE]

Every run trains on other random images of the data set, drawn by its seed, and is scored against all of it: Frechet
distance, precision and recall in the features of the data set's classifier. Recall shows what a generator that
memorises its few images misses.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import torch
from torch import Tensor

from benchmarks.report import report
from ganserve.latents import latents_from_seed
from trainer.config import AnyConfig, override, with_precision
from trainer.data.datasets import ImageData, stream_indices
from trainer.errors import UserError
from trainer.metrics.classifier import classifier_of
from trainer.metrics.scorer import Comparison, score, to_pixels
from trainer.parallel import choose_device
from trainer.presets import choose_preset
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.training.kinds import load_with_config
from trainer.training.loop import train

METRICS: Final = {"FD": "frechet_distance", "precision": "precision", "recall": "recall", "MS-SSIM": "ms_ssim"}
MEASURES: Final = ("frechet", "precision-recall", "ms-ssim")
CHUNK: Final = 256  # images per forward


def subset(data: ImageData, count: int, seed: int) -> ImageData:
    """`count` random images of a data set, without its name, which would give them the labels of other images."""
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count]
    return replace(data, name=f"{count} images of {data.name}", images=data.images[chosen])


def samples(config: AnyConfig, data: ImageData, progress: Progress) -> Tensor:
    """Trains on `data`; returns `evaluation_images` images of the last generator, uint8 (N, C, H, W)."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder), config)
        train(config, run, data, progress)
        (trained,) = load_generators(run.path, "last")
    latents = torch.from_numpy(latents_from_seed(config.seed + 1, config.evaluation_images, trained.latent_dim))
    with torch.inference_mode():
        return torch.cat([to_pixels(trained.network(chunk)) for chunk in torch.split(latents, CHUNK)])


@click.command()
@click.option("--dataset", default="digits", show_default=True, help="Any data set of the trainer.")
@click.option("--data-root", default="data", show_default=True, help="Folder of torchvision's data sets.")
@click.option("--image-size", type=click.IntRange(8), default=32, show_default=True)
@click.option("--counts", default="100,500", show_default=True, help="Numbers of training images.")
@click.option("--augment", default="colour,translation,cutout", show_default=True, help="As the trainer's --augment.")
@click.option("--steps", type=click.IntRange(1), default=1500, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--eval-images", type=click.IntRange(16), default=5000, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(
    dataset: str,
    data_root: str,
    image_size: int,
    counts: str,
    augment: str,
    steps: int,
    seeds: int,
    eval_images: int,
    out: Path | None,
) -> None:
    """Trains a small DCGAN on few images, with and without augmentation, and compares it with all images."""
    progress = Progress()
    settings = {"data_root": data_root, "network.image_size": image_size, "steps": steps}
    try:
        chosen = override(choose_preset("dcgan", "dcgan-digits", dataset), settings)
        config, data = load_with_config(with_precision(chosen, "auto", choose_device("auto")), progress)
    except UserError as error:
        raise click.ClickException(str(error)) from error
    assert isinstance(data, ImageData)
    config = override(config, {"evaluation_images": min(eval_images, len(data)), "evaluate_every_steps": 10**9})
    classifier = classifier_of(data, Path(data_root), choose_device("cpu"), progress)
    rows: list[dict[str, Any]] = []
    for count in map(int, counts.split(",")):
        for augmented in ((), tuple(augment.split(","))):
            found: list[Mapping[str, float]] = []
            began_s = time.monotonic()
            for seed in range(seeds):
                fakes = samples(
                    override(config, {"seed": seed, "augment": augmented}), subset(data, count, seed), progress
                )
                reals = data.images[stream_indices(seed, 0, len(fakes), len(data))]
                found.append(score(Comparison(fakes, reals, classifier=lambda: classifier), MEASURES).metrics)
            row: dict[str, Any] = {"images": count, "augment": ",".join(augmented) or "none"}
            for label, metric in METRICS.items():
                values = [metrics[metric] for metrics in found]
                row[label] = round(statistics.mean(values), 3)
                row[f"+- {label}"] = round(statistics.stdev(values), 3) if seeds > 1 else 0.0
            rows.append(row | {"seconds per run": (time.monotonic() - began_s) / seeds})
            click.echo(f"{row}")
    report(f"dcgan-digits on {data.name.partition(':')[0]}, {steps} steps, {seeds} seeds", rows, out)


if __name__ == "__main__":
    main()

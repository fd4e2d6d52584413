"""Which data and which training a config means, and what can be told of both before a run begins."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch

from trainer.config import AnyConfig, CycleConfig, override, with_channels
from trainer.data.datasets import BUILT_IN, ImageData, load_images
from trainer.data.unpaired import UnpairedData, load_unpaired
from trainer.errors import UserError
from trainer.models.growth import batch_sizes, growth_at, total_images
from trainer.parallel import check_shares, first_before_others
from trainer.progress import Progress
from trainer.training.base import Training
from trainer.training.compiled import check_compiler, compile_networks
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining

Data: TypeAlias = ImageData | UnpairedData


def load_data(config: AnyConfig, progress: Progress) -> Data:
    """Decodes the data set of a config.

    Raises:
        UserError: it cannot be had.
    """
    load = load_unpaired if isinstance(config, CycleConfig) else load_images
    return load(
        config.dataset,
        data_root=Path(config.data_root),
        image_size=config.network.image_size,
        max_corrupt_images=config.max_corrupt_images,
        progress=progress,
    )


def load_with_config(config: AnyConfig, progress: Progress) -> tuple[AnyConfig, Data]:
    """Decodes the data set, which decides the number of channels; paths are made absolute, for a later --resume.

    Raises:
        UserError: it cannot be had.
    """
    config = with_absolute_paths(config)
    with first_before_others(config.dataset in BUILT_IN):  # which may have to be downloaded
        data = load_data(config, progress)
    return with_channels(config, data.channels), data


def with_absolute_paths(config: AnyConfig) -> AnyConfig:
    """The config with the paths of its data made absolute."""
    kind, colon, path = config.dataset.partition(":")
    dataset = f"{kind}:{Path(path).absolute()}" if colon else config.dataset
    return override(config, {"dataset": dataset, "data_root": str(Path(config.data_root).absolute())})


def check_can_train(config: AnyConfig, data: Data, device: torch.device) -> None:
    """Finds out what cannot work on this data and this device, before a run begins.

    Raises:
        UserError: the data cannot fill one batch, processes that train together cannot share one, or nothing can be
            compiled.
    """
    if config.compile_networks:
        check_compiler(device)
    growth = None if isinstance(config, CycleConfig) else config.growth
    final_size = config.network.image_size
    check_shares([config.batch_size] if growth is None else batch_sizes(growth, final_size, config.batch_size))
    name, images = data.name, data.images if isinstance(data, ImageData) else data.train_a
    if isinstance(data, UnpairedData) and len(data.train_b) < len(images):
        name, images = f"domain B of {data.name}", data.train_b
    if config.batch_size > len(images):
        raise UserError(
            f"--batch-size {config.batch_size}: {name} has only {len(images)} images; give at most {len(images)}"
        )


def foresee_growth(config: AnyConfig, data: Data) -> str | None:
    """What a user should know before a run that grows and is too short to reach its final size."""
    if isinstance(config, CycleConfig) or config.growth is None or not isinstance(data, ImageData):
        return None
    final = config.network.image_size
    needed = total_images(config.growth, final) - config.growth.stabilise_images
    planned = config.images or (config.steps or 0) * config.batch_size or (config.epochs or 0) * len(data)
    if planned > needed:
        return None
    end = growth_at(config.growth, final, max(0, planned - 1))
    faded = "" if end.alpha == 1 else f", {end.alpha:.0%} faded in"
    return (
        f"this run ends at {end.resolution}x{end.resolution}{faded}: {final}x{final} is whole after {needed:,} images;"
        " give more --images, or fewer --stabilise-images and --fade-images"
    )


def describe_data(data: Data) -> str:
    """How many images there are, for the user."""
    if isinstance(data, ImageData):
        return f"{len(data)} images"
    test = f", {len(data.test_a)} + {len(data.test_b)} to test on" if len(data.test_a) or len(data.test_b) else ""
    paired = " (pairs)" if data.test_is_paired else ""
    return f"{len(data.train_a)} + {len(data.train_b)} images of two domains{test}{paired}"


def new_training(config: AnyConfig, data: Data, device: torch.device) -> Training:
    """Builds networks and optimisers from torch's global random state, and has them compiled if that is wanted.

    Raises:
        TypeError: the data is another kind's.
    """
    training = _new_training(config, data, device)
    if config.compile_networks:
        compile_networks(config, training.state.networks)
    return training


def _new_training(config: AnyConfig, data: Data, device: torch.device) -> Training:
    if isinstance(config, CycleConfig) and isinstance(data, UnpairedData):
        return CycleTraining(config, data, device)
    if not isinstance(config, CycleConfig) and isinstance(data, ImageData):
        return GanTraining(config, data, device)
    raise TypeError(f"{type(config).__name__} does not train on {type(data).__name__}")

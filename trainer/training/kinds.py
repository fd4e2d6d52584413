"""The table of the kinds of training: how each loads its data, and the class that trains on it.

Facts that need neither data nor networks are on the config classes (config.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from trainer.config import AnyConfig, CycleConfig, GanConfig, TrainConfig, override
from trainer.data.dataset_names import without_path
from trainer.data.datasets import NAMES, ImageData, load_images, normal_name, sha256_of
from trainer.data.unpaired import UnpairedData, load_unpaired, sha256_of_unpaired
from trainer.errors import UserError
from trainer.metrics.inception import load_inception
from trainer.metrics.scorer import FEWEST_IMAGES
from trainer.models.growth import batch_sizes, growth_at, total_images
from trainer.parallel import check_shares, first_before_others
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.training.base import Training
from trainer.training.compiled import check_compiler, compile_networks
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining

Data: TypeAlias = ImageData | UnpairedData
Decoded: TypeAlias = dict[tuple[object, ...], Data]  # by everything that decides the pixels


@dataclass(frozen=True)
class Kind:
    """How configs of one class load their data and train."""

    data: type[Data]
    load: Callable[..., Data]
    training: Callable[[Any, Any, torch.device], Training]


KINDS: Final[dict[type[TrainConfig], Kind]] = {
    GanConfig: Kind(ImageData, load_images, GanTraining),
    CycleConfig: Kind(UnpairedData, load_unpaired, CycleTraining),
}


def load_data(config: AnyConfig, progress: Progress, decoded: Decoded | None = None) -> Data:
    """Decodes the data set of a config, unless it is in `decoded`, to which it is added.

    Raises:
        UserError: it does not exist, is corrupt, or cannot be downloaded.
    """
    settings = {
        "data_root": Path(config.data_root),
        "image_size": config.network.size,
        "max_corrupt_images": config.max_corrupt_images,
    }
    decoded = {} if decoded is None else decoded
    key = (type(config), config.dataset, *settings.values())
    if key not in decoded:
        decoded[key] = KINDS[type(config)].load(config.dataset, **settings, progress=progress)
    return decoded[key]


def sha256_of_data(data: Data) -> str:
    """SHA-256 of all pixels, as in the checkpoints of its runs."""
    return sha256_of(data.images) if isinstance(data, ImageData) else sha256_of_unpaired(data)


def load_with_config(
    config: AnyConfig, progress: Progress, *, resumed: bool = False, decoded: Decoded | None = None
) -> tuple[AnyConfig, Data]:
    """Decodes the data set; returns the config with its number of channels and with absolute paths, for --resume.

    Args:
        config: the settings.
        progress: for the user.
        resumed: the config is that of a run. If its networks are for RGB images, gray images become RGB, as they do
            for initial weights of such networks.
        decoded: the data sets of other configs; those at the same size are not decoded again.

    Raises:
        UserError: as `load_data`.
    """
    config = with_absolute_paths(config)
    with first_before_others(config.dataset in NAMES):  # a download may be needed
        data = load_data(config, progress, decoded)
    weights = config if resumed or not config.init_from else RunFolder.open(Path(config.init_from)).read_config()
    if (resumed or config.init_from) and weights.network.channels == 3:
        data = data.in_colour()
    return override(config, {"network.channels": data.channels}), data


def about_data(config: AnyConfig, data: Data) -> dict[str, Any]:
    """What the data set holds, as plain values for data.json."""
    return {
        "dataset": without_path(config.dataset),
        "images": {part: len(images) for part, images in data.parts.items()},
        "image_size": config.network.image_size,
        "image_width": config.network.image_width,
        "channels": data.channels,
        "pixels": data.pixel_range,
        "left_out": data.left_out,
        "unreadable": data.skipped,
    }


def with_absolute_paths(config: AnyConfig) -> AnyConfig:
    """The config with the paths of its data and of its initial weights made absolute."""
    kind, colon, path = normal_name(config.dataset).partition(":")
    dataset = f"{kind}:{os.path.normpath(Path(path).absolute())}" if colon else config.dataset
    paths = {"dataset": dataset, "data_root": str(Path(config.data_root).absolute())}
    if config.init_from:
        paths["init_from"] = str(Path(config.init_from).absolute())
    if isinstance(config, GanConfig) and config.inception_weights:
        paths["inception_weights"] = str(Path(config.inception_weights).absolute())
    return override(config, paths)


def check_can_train(config: AnyConfig, data: Data, device: torch.device) -> None:
    """Checks that a run can begin with this data on this device.

    Raises:
        UserError: the data set is too small for a batch or an evaluation, the processes cannot share a batch evenly,
            --compile is set and PyTorch's compiler does not work, --deterministic is set and a network has no
            deterministic algorithm, or Inception's weights cannot be loaded.
    """
    if config.deterministic and device.type == "cuda" and isinstance(config, CycleConfig):
        raise UserError(
            "--deterministic: PyTorch has no deterministic gradient of cyclegan's reflection padding on CUDA; leave it"
            " out, or give --device cpu"
        )
    if config.compile_networks:
        check_compiler(device)
    batch_size, growth = config.batch_size, config.growth
    check_shares([batch_size] if growth is None else batch_sizes(growth, config.network.image_size, batch_size))
    name, count = data.smallest_part
    if config.takes_latents and count < FEWEST_IMAGES:  # before the batch, whose remedy would not help
        raise UserError(
            f"--dataset {name}: has only {count} images; evaluations need at least {FEWEST_IMAGES}, so add pictures"
        )
    if batch_size > count:
        raise UserError(f"--batch-size {batch_size}: {name} has only {count} images; give at most {count}")
    if isinstance(config, GanConfig) and config.inception_weights:
        load_inception(Path(config.inception_weights), device)  # evaluations find it loaded


def growth_warning(config: AnyConfig, data: Data) -> str | None:
    """A warning if a growing run is too short to reach its final size; otherwise None."""
    if config.growth is None:
        return None
    final = config.network.image_size
    needed = total_images(config.growth, final) - config.growth.stabilise_images
    planned = config.images or (config.steps or 0) * config.batch_size or (config.epochs or 0) * data.images_per_epoch
    if planned > needed:
        return None
    end = growth_at(config.growth, final, max(0, planned - 1))
    faded = "" if end.alpha == 1 else f", {end.alpha:.0%} faded in"
    return (
        f"this run ends at {end.resolution}x{end.resolution}{faded}: {final}x{final} is complete after {needed:,}"
        " images; give more --images, or fewer --stabilise-images and --fade-images"
    )


def new_training(config: AnyConfig, data: Data, device: torch.device) -> Training:
    """Builds networks and optimisers from torch's global random state, and compiles them if the config says so.

    Raises:
        TypeError: the data belongs to another kind of training.
    """
    kind = KINDS[type(config)]
    if not isinstance(data, kind.data):
        raise TypeError(f"{type(config).__name__} does not train on {type(data).__name__}")
    training = kind.training(config, data, device)
    if config.compile_networks:
        compile_networks(config, training.state.networks)
    return training

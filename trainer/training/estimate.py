"""How long a run will take: a few steps of a throwaway training, timed on this machine."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Final

import torch
from torch.nn import functional as F

from trainer.config import AnyConfig, override
from trainer.data.datasets import ImageData
from trainer.models.architecture import Size
from trainer.models.growth import batch_sizes
from trainer.training.base import Training
from trainer.training.determinism import deterministic
from trainer.training.kinds import Data, new_training

_TIMED_S: Final = 2.0  # at each position
_TIMED_STEPS: Final = 8  # lazy penalties and critics of their own pace are in some steps only
_GROWING_POSITIONS: Final = 8  # of a growing run, whose steps take longer and longer


def total_steps(config: AnyConfig, images_per_epoch: int) -> int | None:
    """Steps of the whole run; None if the length is in images and a growing network changes the batch size."""
    if config.steps is not None:
        return config.steps
    sizes = {config.batch_size}
    if config.growth is not None:
        sizes = set(batch_sizes(config.growth, config.network.image_size, config.batch_size))
    images = config.images or (config.epochs or 0) * images_per_epoch
    return math.ceil(images / sizes.pop()) if len(sizes) == 1 else None


def estimate_s(config: AnyConfig, data: Data, device: torch.device, *, size: Size | None = None) -> float:
    """Seconds of all training steps, without scores, samples and figures.

    Trains new networks on the first images of the data set for a few steps. Torch's random state stays as it was, so
    the run itself does not change.

    Args:
        config: the settings, not distributed.
        data: at the size of the config.
        device: to train on.
        size: another height and width, in pixels, to which images are enlarged.

    Raises:
        UserError: the networks cannot make images of `size`.
    """
    images = (
        config.steps * config.batch_size
        if config.steps is not None
        else config.images or (config.epochs or 0) * data.images_per_epoch
    )
    height, width = size or config.network.size
    settings = {"network.image_size": height, "network.image_width": width, "compile_networks": False}
    config = override(config, settings)
    config.check()
    devices = [device] if device.type == "cuda" else []
    # cuBLAS reads its settings when it is first used, so here they must be those of the run.
    with deterministic(device, wanted=config.deterministic), torch.random.fork_rng(devices=devices):
        training = new_training(config, _few(data, config), device)
        parts = 1 if config.growth is None else _GROWING_POSITIONS
        seconds = [_image_s(training, images * part // parts) for part in range(parts)]
    return sum(seconds) / len(seconds) * images


def _image_s(training: Training, images_seen: int) -> float:
    """Seconds per image of the steps after `images_seen` images; the first step is not counted."""
    training.state.images_seen = images_seen
    training.train_step(0.0)
    _wait(training)
    began_s, images, steps = time.perf_counter(), 0, 0
    while steps < _TIMED_STEPS and (steps < 2 or time.perf_counter() - began_s < _TIMED_S):
        images += training.batch_size
        training.train_step(0.0)
        _wait(training)
        steps += 1
    return (time.perf_counter() - began_s) / images


def _wait(training: Training) -> None:
    if training.state.device.type == "cuda":
        torch.cuda.synchronize(training.state.device)


def _few(data: Data, config: AnyConfig) -> Data:
    """One batch of the data, at the size of the config."""
    size = config.network.size

    def some(images: torch.Tensor) -> torch.Tensor:
        first = images[: config.batch_size]
        return first if first.shape[-2:] == size else F.interpolate(first, size=size)

    if isinstance(data, ImageData):
        return replace(data, images=some(data.images))
    return replace(
        data,
        train_a=some(data.train_a),
        train_b=some(data.train_b),
        test_a=data.test_a[:0],
        test_b=data.test_b[:0],
    )

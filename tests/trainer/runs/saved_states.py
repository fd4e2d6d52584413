"""Training states of each kind after a few steps, and their checkpoints."""

from __future__ import annotations

import msgspec
import torch

from tests.trainer.conftest import made_up_images, small_config
from trainer.config import AnyConfig
from trainer.runs.run_folder import CheckpointMetadata, RunFolder
from trainer.training.base import Training
from trainer.training.kinds import new_training

CPU = torch.device("cpu")
ONE_OF_EACH_KIND: dict[str, AnyConfig] = {
    "dcgan": small_config("dcgan", "dcgan-digits"),
    "pggan": small_config("pggan", "pggan-small"),
    "cyclegan": small_config("cyclegan", "cyclegan-digits"),
}


def new(config: AnyConfig) -> Training:
    return new_training(config, made_up_images(config), CPU)


def after_steps(config: AnyConfig, steps: int = 3) -> Training:
    """By default during a fade if the network grows, and with full, used pools if there are pools."""
    training = new(config)
    for _ in range(steps):
        training.train_step(0.0)
    return training


def metadata_of(training: Training, **changes: object) -> CheckpointMetadata:
    metadata = CheckpointMetadata(
        step=training.state.step,
        images_seen=training.state.images_seen,
        counters=training.state.counters,
        train_seconds=1.5,
        output_size=training.output_size,
        fade=training.fade,
        metrics={"some_distance": 4.0},
        best_score=3.0,
        best_size=training.output_size,
        planned_step=0,
        data_images=training.data_images,
        data_sha256=training.data_sha256,
    )
    return msgspec.structs.replace(metadata, **changes)


def save(run: RunFolder, training: Training, *, best: bool = False, **changes: object) -> None:
    run.save_checkpoint(training.state, metadata_of(training, **changes), best=best)

"""The trainer's settings: the only place of their defaults, and of what makes them valid.

A preset is a complete `TrainConfig`; flags override fields of it, and the result is printed, saved as config.json, and
enough to build everything again. It holds registry names only, never class paths.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace

from trainer.errors import UserError
from trainer.models import NetworkConfig, check_network
from trainer.objectives import OBJECTIVES, DivergencePoints

Positive = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=10)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Beta = Annotated[float, msgspec.Meta(ge=0, lt=1)]

OptimizerName = Literal["adam", "rmsprop", "sgd"]
DeviceName = Literal["auto", "cpu", "cuda"]


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training, completely described."""

    schema_version: Literal[1] = 1

    # What is trained, and on what.
    model: str
    preset: str
    dataset: str  # "digits", "mnist", "fashion-mnist", "folder:PATH" or "zip:PATH"; "" in presets that need images
    data_root: str = "data"  # where mnist and fashion-mnist lie, or are downloaded to
    max_corrupt_images: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 50
    network: NetworkConfig

    # The game.
    objective: str
    discriminator_loss_scale: Rate = 1.0
    clip_value: Annotated[float, msgspec.Meta(gt=0, le=1e3)] = 0.01  # wgan: critic weights are kept in +- this
    gp_weight: Weight = 10.0  # wgan-gp: lambda
    div_k: Weight = 2.0  # wgan-div: weight of the penalty
    div_p: Annotated[float, msgspec.Meta(ge=1, le=16)] = 6.0  # wgan-div: power of the gradient norm
    div_points: DivergencePoints = "interpolates"

    # The recipe. A step is one batch of real images and one update of the discriminator.
    batch_size: Annotated[int, msgspec.Meta(ge=2, le=1 << 20)] = 64
    epochs: Positive | None = None  # exactly one of epochs and steps is set
    steps: Positive | None = None
    optimizer: OptimizerName = "adam"
    generator_lr: Rate = 2e-4
    discriminator_lr: Rate = 2e-4
    betas: tuple[Beta, Beta] = (0.5, 0.999)  # of Adam
    n_critic: Positive = 1  # discriminator updates a generator update
    warm_start: bool = False  # wgan: 100 critic updates before each of the first 25 and every 500th generator update
    generator_first: bool = False  # update the generator before the discriminator in a step
    reuse_fakes: bool = False  # the generator's update re-uses the fakes of the discriminator's
    ema_decay: Beta = 0.999  # of the generator that is sampled and exported
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    device: DeviceName = "auto"

    # What is written, and when. Samples and a checkpoint are written at the end of every epoch.
    log_every_steps: Positive = 50
    checkpoint_every_steps: Positive = 500
    evaluate_every_steps: Positive = 100  # at the end of an epoch, if it passed a multiple; best is chosen at these
    evaluation_images: Annotated[int, msgspec.Meta(ge=16, le=1 << 16)] = 512


# Flags that are not named after their field.
_FLAGS = {"generator_lr": "lr", "discriminator_lr": "lr", "max_corrupt_images": "max-corrupt"}


def check_config(config: TrainConfig) -> None:
    """Raises UserError, naming the flag, if the settings do not fit together."""
    OBJECTIVES[config.objective]
    check_network(config.network)
    if (config.epochs is None) == (config.steps is None):
        raise UserError("--epochs and --steps: give one of the two")
    if not config.dataset:
        raise UserError(
            f"--dataset: preset {config.preset!r} has no data set of its own;"
            " give --dataset folder:PATH, zip:PATH, mnist, fashion-mnist or digits"
        )


def override(config: TrainConfig, settings: dict[str, Any]) -> TrainConfig:
    """Returns the config with some fields replaced; keys are field names, `network.` before those of the network.

    Raises:
        UserError: a value is of the wrong type or out of range; the message names the field's flag.
    """
    raw = msgspec.to_builtins(config)
    for name, value in settings.items():
        scope, _, field = name.rpartition(".")
        (raw[scope] if scope else raw)[field] = value
    try:
        return msgspec.convert(raw, TrainConfig)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`")
        flag = _FLAGS.get(field, field.removeprefix("network.").replace("_", "-"))
        raise UserError(f"--{flag}: {reason[0].lower()}{reason[1:]}") from None


def with_channels(config: TrainConfig, channels: int) -> TrainConfig:
    """The config with the data set's number of channels."""
    return replace(config, network=replace(config.network, channels=channels))


def to_json(config: TrainConfig) -> str:
    """The config as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(config), indent=2).decode()

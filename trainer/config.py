"""The trainer's settings: the only place of their defaults, and of what makes them valid.

A preset is a complete config; flags override fields of it, and the result is printed, saved as config.json, and enough
to build everything again. It holds registry names only, never class paths. There is one class for each kind of
training; of a GAN's settings some are read by one objective or architecture only, and their flags go with it alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
import torch

from trainer.errors import UserError
from trainer.metrics.choosing import choosing_metric
from trainer.models import ARCHITECTURES, NetworkConfig, TranslatorConfig, check_network, check_translator
from trainer.models.growth import GrowthConfig, check_growth
from trainer.objectives import OBJECTIVES, DivergencePoints
from trainer.precision import Precision, choose_precision

Positive = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=10)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Beta = Annotated[float, msgspec.Meta(ge=0, lt=1)]
DomainName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]{1,20}\Z")]

OptimizerName = Literal["adam", "rmsprop", "sgd"]
DeviceName = Literal["auto", "cpu", "cuda"]
OnCollapse = Literal["warn", "stop"]


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every training has."""

    schema_version: Literal[3] = 3

    # What is trained, and on what.
    model: str
    preset: str
    dataset: str  # "digits", "mnist", "fashion-mnist", "folder:PATH" or "zip:PATH"; "" in presets that need images
    data_root: str = "data"  # where mnist and fashion-mnist lie, or are downloaded to
    max_corrupt_images: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 50

    # For how long. A step is one batch of real images; exactly one of epochs, steps and images is set.
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 64
    epochs: Positive | None = None
    steps: Positive | None = None
    images: Annotated[int, msgspec.Meta(ge=1, le=10**12)] | None = None  # real images shown

    generator_lr: Rate = 2e-4
    discriminator_lr: Rate = 2e-4
    betas: tuple[Beta, Beta] = (0.5, 0.999)  # of Adam
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    device: DeviceName = "auto"
    precision: Precision = "fp32"  # of the layers in a step
    compile_networks: bool = False  # those that can be, with torch.compile
    deterministic: bool = False  # on CUDA: the same run gives the same bits, more slowly; a CPU always does

    # What is written, and when. Samples and a checkpoint are written at the end of every epoch too.
    log_every_steps: Positive = 50
    checkpoint_every_steps: Positive = 500
    evaluate_every_steps: Positive = 100  # at the end of the epoch that passes so many; best is chosen at these
    evaluation_images: Annotated[int, msgspec.Meta(ge=16, le=1 << 16)] = 512
    best_by: str = ""  # the metric that chooses the best checkpoint; "": the first that this kind of training measures
    on_collapse: OnCollapse = "warn"  # what is done when a training is found to lead nowhere


class GanConfig(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="gan"):
    """A generator of images from latents, and the discriminator or critic that trains it."""

    network: NetworkConfig
    growth: GrowthConfig | None = None  # progressive growing; None trains the whole network from the start

    # The game.
    objective: str
    discriminator_loss_scale: Rate = 1.0
    clip_value: Annotated[float, msgspec.Meta(gt=0, le=1e3)] = 0.01  # wgan: critic weights are kept in +- this
    gp_weight: Weight = 10.0  # wgan-gp: lambda
    drift: Weight = 0.0  # weight of the mean squared score of reals, which keeps a critic's scores near 0
    div_k: Weight = 2.0  # wgan-div: weight of the penalty
    div_p: Annotated[float, msgspec.Meta(ge=1, le=16)] = 6.0  # wgan-div: power of the gradient norm
    div_points: DivergencePoints = "interpolates"

    # The recipe.
    optimizer: OptimizerName = "adam"
    n_critic: Positive = 1  # discriminator updates a generator update
    warm_start: bool = False  # wgan: 100 critic updates before each of the first 25 and every 500th generator update
    generator_first: bool = False  # update the generator before the discriminator in a step
    reuse_fakes: bool = False  # the generator's update re-uses the fakes of the discriminator's
    ema_decay: Beta = 0.999  # of the generator that is sampled and exported


class CycleConfig(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="cycle"):
    """Two translators between two domains of unpaired images (Zhu et al. 2017, "CycleGAN")."""

    network: TranslatorConfig
    domains: tuple[DomainName, DomainName] = ("a", "b")  # what the bundles are named after: cyclegan-a2b, cyclegan-b2a
    cycle_weight: Weight = 10.0
    identity_weight: Weight = 5.0
    pool_images: Annotated[int, msgspec.Meta(ge=0, le=10**4)] = 50  # fakes that each discriminator remembers
    mirror: bool = True  # show half of the training images mirrored
    constant_lr_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5  # of the training; then it falls to 0 in a line
    keep_epochs: Positive = 1  # the four networks of every so many epochs are kept

    @property
    def bundle_suffixes(self) -> tuple[str, str]:
        """What the names of the two bundles end in: -a2b, -b2a."""
        a, b = self.domains
        return f"-{a}2{b}", f"-{b}2{a}"


AnyConfig: TypeAlias = GanConfig | CycleConfig
Config = TypeVar("Config", GanConfig, CycleConfig, AnyConfig)

# Settings that only one way of keeping a critic smooth reads.
_READ_BY_CONSTRAINT = {
    "clip_value": "clip",
    "gp_weight": "gradient-penalty",
    "div_k": "divergence",
    "div_p": "divergence",
}

# Flags that are not named after their field.
_FLAGS = {"compile_networks": "compile", "max_corrupt_images": "max-corrupt", "evaluate_every_steps": "eval-every"}


def check_config(config: AnyConfig) -> None:
    """Raises UserError, naming the flag, if the settings do not fit together."""
    if sum(length is not None for length in (config.epochs, config.steps, config.images)) != 1:
        raise UserError("--epochs, --steps and --images: give one of the three")
    choosing_metric(config.best_by, latents=isinstance(config, GanConfig))
    if isinstance(config, CycleConfig):
        check_translator(config.network)
        forth, back = config.bundle_suffixes
        if forth.casefold() == back.casefold():
            raise UserError(f"--domains: both bundles would be called cyclegan{forth}; give names that differ more")
    else:
        OBJECTIVES[config.objective]
        check_network(config.network)
        if config.growth is not None:
            check_growth(config.growth, config.network.image_size)
        if (config.growth is not None) != ARCHITECTURES[config.network.architecture].grows:
            raise UserError(f"growth: does not go with the architecture {config.network.architecture!r}")
        if config.growth is not None and config.compile_networks:
            raise UserError(
                "--compile: a network that grows would be compiled anew in each step of a fade; give --no-compile"
            )
        if config.batch_size < 2:
            raise UserError("--batch-size 1: batch statistics need at least 2 images")
    if not config.dataset:
        raise UserError(
            f"--dataset: preset {config.preset!r} has no data set of its own;"
            " give --dataset folder:PATH, zip:PATH, mnist, fashion-mnist or digits"
        )


def check_flags(config: AnyConfig, fields: Iterable[str]) -> None:
    """Raises UserError if one of these fields, which a user has set, has no effect on this training."""
    if isinstance(config, CycleConfig):
        return
    constraint = OBJECTIVES[config.objective].constraint
    for field in fields:
        wanted = _READ_BY_CONSTRAINT.get(field)
        unread = wanted is not None and wanted != constraint
        if unread or (field == "critic_norm" and not ARCHITECTURES[config.network.architecture].reads_critic_norm):
            raise UserError(f"--{_flag(field)}: {config.model} ({config.preset}) has no such setting")


def override(config: Config, settings: dict[str, Any]) -> Config:
    """Returns the config with some fields replaced; keys are field names, with `network.` or `growth.` before theirs.

    Raises:
        UserError: the model has no such setting, or a value is of the wrong type or out of range; the message names
            the field's flag.
    """
    raw = msgspec.to_builtins(config)
    for name, value in settings.items():
        scope, _, field = name.rpartition(".")
        table = raw.get(scope) if scope else raw
        if table is None or field not in table:
            raise UserError(f"--{_flag(field)}: {config.model} ({config.preset}) has no such setting")
        table[field] = value
    try:
        return msgspec.convert(raw, type(config))
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`").split(".")[-1].partition("[")[0]
        if field == "generator_lr" and settings.get(field) == settings.get("discriminator_lr"):
            field = "lr"  # one flag sets both
        raise UserError(f"--{_flag(field)}: {reason[0].lower()}{reason[1:]}") from None


def gains_by_bf16(config: AnyConfig) -> bool:
    """Whether a step of this training is faster in bf16 where the device has instructions for it."""
    return isinstance(config, CycleConfig) or ARCHITECTURES[config.network.architecture].gains_by_bf16


def with_precision(config: Config, name: str, device: torch.device) -> Config:
    """The config with what --precision (auto, fp32, bf16) means on a device.

    Raises:
        UserError: there is no such precision.
    """
    return override(config, {"precision": choose_precision(name, device, gains=gains_by_bf16(config))})


def with_channels(config: Config, channels: int) -> Config:
    """The config with the data set's number of channels."""
    return override(config, {"network.channels": channels})


def to_json(config: AnyConfig) -> str:
    """The config as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(config), indent=2).decode()


def from_json(content: bytes) -> AnyConfig:
    """Decodes a config strictly.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    config: AnyConfig = msgspec.json.decode(content, type=AnyConfig)
    return config


def _flag(field: str) -> str:
    return _FLAGS.get(field, field.replace("_", "-"))

"""The trainer's settings, their defaults, and the rules that make them valid.

A preset is a complete config. Flags override its fields; the result is printed and saved as config.json, which is
enough to build everything again. It holds registry names, never class paths. Each kind of training has one config
class, which also holds the facts that depend on the kind alone; training/kinds.py holds those that need data or
networks. Some settings apply to one objective or architecture only; with any other, their flags are errors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

import msgspec
import torch
from torch import nn

from ganserve.metrics import CYCLE_METRICS, GAN_METRICS, Metric
from trainer.augmentation import AUGMENTATIONS
from trainer.errors import UserError
from trainer.metrics.choosing import check_choosing
from trainer.models import (
    ARCHITECTURES,
    NetworkConfig,
    TranslatorConfig,
    build_generator,
    build_translator,
    check_network,
    check_translator,
)
from trainer.models.growth import GrowthConfig, check_growth
from trainer.objectives import OBJECTIVES, Constraint, DivergencePoints
from trainer.precision import Precision, choose_precision

Positive = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=10)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Beta = Annotated[float, msgspec.Meta(ge=0, lt=1)]
DomainName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]{1,20}\Z")]

OptimizerName = Literal["adam", "rmsprop", "sgd"]
DeviceName = Literal["auto", "cpu", "cuda"]
OnCollapse = Literal["warn", "stop"]

# Names of the exported networks in a checkpoint.
EMA_GENERATOR = "ema_generator"
TRANSLATORS = ("generator_ab", "generator_ba")

_CHOOSES_OBJECTIVE = {"gan", "dcgan"}  # models that are not named after their objective


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings that all kinds of training share, and the interface of the facts about a kind."""

    METRICS: ClassVar[Mapping[str, Metric]]  # metrics of an evaluation, by name
    FIGURES: ClassVar[Mapping[str, str]]  # files under figures/ that are not curves -> their captions
    takes_latents: ClassVar[bool]  # the exported networks take latents; else they take images

    schema_version: Literal[3] = 3

    # Model and data.
    model: str
    preset: str
    dataset: str  # a name of trainer/data/datasets.py, "folder:PATH" or "zip:PATH"; "" in presets that need images
    data_root: str = "data"  # folder of torchvision's data sets; they are downloaded to it if missing
    max_corrupt_images: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 50

    # The weights to begin with: a checkpoint of another run. "" draws new ones from the seed.
    init_from: str = ""  # folder of that run
    init_checkpoint: str = "best"

    # Length. A step is one batch of real images. Exactly one of epochs, steps and images is set.
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 64
    epochs: Positive | None = None
    steps: Positive | None = None
    images: Annotated[int, msgspec.Meta(ge=1, le=10**12)] | None = None  # real images shown in total

    generator_lr: Rate = 2e-4
    discriminator_lr: Rate = 2e-4
    betas: tuple[Beta, Beta] = (0.5, 0.999)  # of Adam
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    device: DeviceName = "auto"
    precision: Precision = "fp32"  # of the layers
    compile_networks: bool = False  # with torch.compile
    deterministic: bool = False  # CUDA only: bit-identical runs, slower; a CPU is always deterministic

    # Output. A sample grid and a checkpoint are written every `checkpoint_every_steps`, and at the first end of an
    # epoch after each multiple of `sample_every_steps`; the first of them after each multiple of
    # `evaluate_every_steps` is evaluated too.
    log_every_steps: Positive = 50
    checkpoint_every_steps: Positive = 500
    sample_every_steps: Positive = 1
    evaluate_every_steps: Positive = 100
    evaluation_images: Annotated[int, msgspec.Meta(ge=16, le=1 << 16)] = 512
    best_by: str = ""  # metric that chooses the best checkpoint; "": default_score_metric
    on_collapse: OnCollapse = "warn"  # what to do when the run stops making progress

    @property
    def score_metric(self) -> str:
        """Name of the metric that chooses the best checkpoint."""
        return self.best_by or self.default_score_metric

    @property
    @abstractmethod
    def default_score_metric(self) -> str:
        """The metric that chooses without `best_by`."""

    @property
    def uses_inception(self) -> bool:
        """Whether evaluations measure FID and KID."""
        return False

    @property
    @abstractmethod
    def remedy(self) -> str:
        """Flags that often make the results of this model better and are not in use yet; "" if there are none."""

    def check(self) -> None:
        """Checks that the settings fit together.

        Raises:
            UserError: they do not; the message names the flag.
        """
        if sum(length is not None for length in (self.epochs, self.steps, self.images)) != 1:
            raise UserError("--epochs, --steps and --images: give one of the three")
        check_choosing(self.score_metric, latents=self.takes_latents, inception=self.uses_inception)
        self._check_network()
        if not self.dataset:
            raise UserError(
                f"--dataset: preset {self.preset!r} has no data set of its own;"
                " give the path of a folder or zip file, or the name of a data set"
            )

    @abstractmethod
    def _check_network(self) -> None:
        """Checks the settings of this kind alone; raises UserError."""


class GanConfig(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="gan"):
    """A generator of images from latents, and the discriminator or critic that trains it."""

    METRICS: ClassVar = GAN_METRICS
    FIGURES: ClassVar = {
        "real_beside_fake.png": "Real images next to fakes",
        "traversal.png": "Single dimensions of the latents at chosen values",
        "growth.png": "The same latents at each size of a growing network",
    }
    takes_latents: ClassVar = True
    exports: ClassVar[Mapping[str, str]] = {"": EMA_GENERATOR}  # suffix of a bundle's name -> network in a checkpoint

    network: NetworkConfig
    growth: GrowthConfig | None = None  # progressive growing; None trains the whole network from the start

    # Losses.
    objective: str
    discriminator_loss_scale: Rate = 1.0
    clip_value: Annotated[float, msgspec.Meta(gt=0, le=1e3)] = 0.01  # wgan: critic weights are clipped to +- this
    gp_weight: Weight = 10.0  # wgan-gp: lambda
    r1: Weight = 0.0  # gamma of the zero-centred gradient penalty at real images
    r2: Weight = 0.0  # the same at fakes
    penalty_every: Positive = 1  # discriminator updates per update with r1 and r2, which then weigh as much more
    drift: Weight = 0.0  # weight of the mean squared score of reals, which keeps a critic's scores near 0
    div_k: Weight = 2.0  # wgan-div: weight of the penalty
    div_p: Annotated[float, msgspec.Meta(ge=1, le=16)] = 6.0  # wgan-div: power of the gradient norm
    div_points: DivergencePoints = "interpolates"

    # Images that the discriminator sees.
    mirror: bool = False  # mirror half of the real images at random
    augment: tuple[str, ...] = ()  # augmentations of reals and fakes, in this order

    # Updates.
    optimizer: OptimizerName = "adam"
    n_critic: Positive = 1  # discriminator updates per generator update
    warm_start: bool = False  # wgan: 100 critic updates before each of the first 25 and every 500th generator update
    generator_first: bool = False  # update the generator before the discriminator in a step
    reuse_fakes: bool = False  # update the generator on the discriminator's fakes instead of new ones
    ema_decay: Beta = 0.999  # of the averaged generator, which is sampled and exported

    # Evaluations.
    inception_weights: str = ""  # file, for FID and KID; "": do not measure them

    @property
    def default_score_metric(self) -> str:
        """See `TrainConfig`: a growing network makes images of several sizes, and SWD suits them all."""
        return "frechet_distance" if self.growth is None else "sliced_wasserstein_distance"

    @property
    def uses_inception(self) -> bool:
        """See `TrainConfig`."""
        return bool(self.inception_weights)

    @property
    def remedy(self) -> str:
        """See `TrainConfig`: the loss of the best recipes of `gan` and `dcgan` (trainer/presets.py)."""
        could_use = self.model in _CHOOSES_OBJECTIVE and self.objective != "relativistic"
        return "--objective relativistic --r1 1 --r2 1" if could_use else ""

    @property
    def constraint(self) -> Constraint:
        """How the critic is kept smooth."""
        return OBJECTIVES[self.objective].constraint

    @property
    def differentiates_twice(self) -> bool:
        """Whether a penalty on the discriminator's gradient is differentiated again."""
        return self.constraint in ("gradient-penalty", "divergence") or self.r1 > 0 or self.r2 > 0

    @property
    def scores_are_probabilities(self) -> bool:
        """Whether D(x) is read through a sigmoid."""
        return OBJECTIVES[self.objective].scores_are_probabilities

    @property
    def has_critic(self) -> bool:
        """Whether D estimates a Wasserstein distance, D(x) - D(G(z)), and is not a classifier."""
        return self.constraint != "none"

    @property
    def gains_from_bf16(self) -> bool:
        """Whether a step is faster in bf16 on a device that has instructions for it."""
        return ARCHITECTURES[self.network.architecture].gains_from_bf16

    def build_generator(self) -> nn.Module:
        """Builds one of the exported networks, with new weights."""
        return build_generator(self.network)

    def _check_network(self) -> None:
        OBJECTIVES[self.objective]  # raises if there is no such objective
        for name in self.augment:
            AUGMENTATIONS[name]  # likewise
        check_network(self.network)
        if self.growth is not None:
            check_growth(self.growth, self.network.image_size)
        if (self.growth is not None) != ARCHITECTURES[self.network.architecture].grows:
            raise UserError(f"growth: does not go with the architecture {self.network.architecture!r}")
        if self.growth is not None and self.compile_networks:
            raise UserError(
                "--compile: a growing network would be compiled again in each step of a fade; give --no-compile"
            )
        if self.batch_size < 2:
            raise UserError("--batch-size 1: batch statistics need at least 2 images")


class CycleConfig(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="cycle"):
    """Two translators between two domains of unpaired images (Zhu et al. 2017, "CycleGAN")."""

    METRICS: ClassVar = CYCLE_METRICS
    FIGURES: ClassVar = {"translations.png": "Test images and translations"}
    takes_latents: ClassVar = False
    growth: ClassVar[None] = None
    constraint: ClassVar[Constraint] = "none"
    differentiates_twice: ClassVar[bool] = False
    scores_are_probabilities: ClassVar[bool] = False
    has_critic: ClassVar[bool] = False
    gains_from_bf16: ClassVar[bool] = True

    network: TranslatorConfig
    domains: tuple[DomainName, DomainName] = ("a", "b")  # they name the bundles: cyclegan-a2b, cyclegan-b2a
    cycle_weight: Weight = 10.0
    identity_weight: Weight = 5.0
    pool_images: Annotated[int, msgspec.Meta(ge=0, le=10**4)] = 50  # capacity of each discriminator's image pool
    mirror: bool = True  # mirror half of the training images at random
    jitter: bool = False  # enlarge training images by 286/256, and crop at random
    # Share of the run with a constant learning rate; after it the rate falls linearly to 0.
    constant_lr_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    keep_epochs: Positive = 1  # keep the four networks of every N-th epoch

    @property
    def default_score_metric(self) -> str:
        """See `TrainConfig`."""
        return "paired_l1"

    @property
    def remedy(self) -> str:
        """See `TrainConfig`: the identity loss holds back changes of brightness and colour."""
        return "--identity-weight 0" if self.identity_weight else ""

    @property
    def exports(self) -> Mapping[str, str]:
        """See `GanConfig`; the suffixes are -a2b and -b2a."""
        a, b = self.domains
        return dict(zip((f"-{a}2{b}", f"-{b}2{a}"), TRANSLATORS, strict=True))

    def build_generator(self) -> nn.Module:
        """See `GanConfig`."""
        return build_translator(self.network)

    def _check_network(self) -> None:
        check_translator(self.network)
        if len({suffix.casefold() for suffix in self.exports}) < len(TRANSLATORS):
            name = f"cyclegan{next(iter(self.exports))}"
            raise UserError(f"--domains: both bundles would be named {name}; give names that differ more")


AnyConfig: TypeAlias = GanConfig | CycleConfig
Config = TypeVar("Config", GanConfig, CycleConfig, AnyConfig)

# Settings that a single constraint reads.
_READ_BY_CONSTRAINT = {
    "clip_value": "clip",
    "gp_weight": "gradient-penalty",
    "div_k": "divergence",
    "div_p": "divergence",
}

# Flags whose names differ from those of their fields.
_FLAGS = {
    "compile_networks": "compile",
    "max_corrupt_images": "max-corrupt",
    "evaluate_every_steps": "eval-every",
    "evaluation_images": "eval-images",
    "init_checkpoint": "checkpoint",
}


def check_flags(config: AnyConfig, fields: Iterable[str]) -> None:
    """Raises UserError if one of these fields, set by the user, has no effect on this run."""
    for field in fields:
        if field == "critic_norm":
            is_read = ARCHITECTURES[config.network.architecture].reads_critic_norm
        elif field == "init_checkpoint":
            if not config.init_from:
                raise UserError("--checkpoint: goes with --init-from RUN")
            is_read = True
        elif field == "objective":
            is_read = config.model in _CHOOSES_OBJECTIVE
            if is_read and isinstance(config, GanConfig) and config.constraint != "none":
                name = config.objective
                raise UserError(f"--objective {name}: belongs to another model; give --model {name}")
        else:
            is_read = _READ_BY_CONSTRAINT.get(field, config.constraint) == config.constraint
        if not is_read:
            raise UserError(f"--{_flag(field)}: {config.model} ({config.preset}) has no such setting")


def override(config: Config, settings: dict[str, Any]) -> Config:
    """Returns a copy of the config with some fields replaced.

    Args:
        config: to copy.
        settings: values by field name; fields of the nested tables are named `network.FIELD` and `growth.FIELD`, and
            one of Adam's betas `betas.0` or `betas.1`.

    Raises:
        UserError: the model has no such setting, or a value has the wrong type or is out of range; the message names
            the field's flag.
    """
    raw = msgspec.to_builtins(config)
    for name, value in settings.items():
        scope, _, field = name.rpartition(".")
        table = raw.get(scope) if scope else raw
        if isinstance(table, tuple) and field in {"0", "1"}:
            raw[scope] = tuple(value if str(index) == field else other for index, other in enumerate(table))
            continue
        if not isinstance(table, dict) or field not in table:
            raise UserError(f"--{_flag(field)}: {config.model} ({config.preset}) has no such setting")
        table[field] = value
    try:
        return msgspec.convert(raw, type(config))
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`").split(".")[-1].partition("[")[0]
        if field == "betas":
            field = "beta2" if "[1]" in path else "beta1"
        if field == "generator_lr" and settings.get(field) == settings.get("discriminator_lr"):
            field = "lr"  # one flag sets both
        raise UserError(f"--{_flag(field)}: {reason[0].lower()}{reason[1:]}") from None


def with_precision(config: Config, name: str, device: torch.device) -> Config:
    """The config with the precision that --precision (auto, fp32, bf16) chooses on a device.

    Raises:
        UserError: there is no such precision.
    """
    return override(config, {"precision": choose_precision(name, device, gains=config.gains_from_bf16)})


def to_json(config: AnyConfig) -> str:
    """The config as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(config), indent=2).decode()


def from_json(content: bytes) -> AnyConfig:
    """Decodes a config strictly.

    Raises:
        msgspec.MsgspecError: the content is not a config of this version.
    """
    config: AnyConfig = msgspec.json.decode(content, type=AnyConfig)
    return config


def _flag(field: str) -> str:
    return _FLAGS.get(field, field.replace("_", "-"))

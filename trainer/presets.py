"""The table of presets, and how to choose one: by model and id, or by model and data set.

The default for a data set is the model's first preset whose `fits` names it; `images` stands for folder:PATH, zip:PATH,
cifar10 and celeba.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace
from rich.table import Table

from trainer.config import AnyConfig, CycleConfig, GanConfig
from trainer.errors import UserError
from trainer.models import NetworkConfig, TranslatorConfig, shown_size
from trainer.models.architecture import CriticNorm
from trainer.models.growth import GrowthConfig
from trainer.progress import Progress

DataKind = Literal["digits", "mnist", "fashion-mnist", "images"]
_LIKE: dict[str, DataKind] = {"stacked-mnist": "digits", "cifar10": "images", "celeba": "images"}


@dataclass(frozen=True)
class Preset:
    """A recipe, and the kinds of data that it is made for; the first is its default data set."""

    config: AnyConfig
    fits: tuple[DataKind, ...]
    summary: str

    @property
    def made_for(self) -> str:
        """The kinds of data, for the user."""
        return " or ".join(self.fits).replace("images", "any images")

    @property
    def length(self) -> str:
        """The length of a run, for the user: "50 epochs"."""
        unit = next(unit for unit in ("epochs", "steps", "images") if getattr(self.config, unit))
        return f"{getattr(self.config, unit):,} {unit}"


def _preset(
    model: str,
    name: str,
    fits: DataKind | tuple[DataKind, ...],
    summary: str,
    architecture: str,
    image_size: int,
    *,
    lr: float = 2e-4,
    width: float = 1.0,
    latent_dim: int = 100,
    critic_norm: CriticNorm = "batch",
    **settings: Any,
) -> Preset:
    fits = (fits,) if isinstance(fits, str) else fits
    recipe: dict[str, Any] = {
        "objective": "nonsaturating" if model in {"gan", "dcgan"} else model,
        "generator_lr": lr,
        "discriminator_lr": lr,
    } | settings
    config = GanConfig(
        model=model,
        preset=name,
        dataset="" if fits[0] == "images" else fits[0],
        network=NetworkConfig(
            architecture=architecture,
            image_size=image_size,
            channels=3 if fits[0] == "images" else 1,
            width=width,
            latent_dim=latent_dim,
            critic_norm=critic_norm,
        ),
        **recipe,
    )
    return Preset(config, fits, summary)


def _cycle(
    name: str, fits: DataKind | tuple[DataKind, ...], summary: str, network: TranslatorConfig, **settings: Any
) -> Preset:
    fits = (fits,) if isinstance(fits, str) else fits
    dataset = "" if fits[0] == "images" else fits[0]
    return Preset(
        CycleConfig(model="cyclegan", preset=name, dataset=dataset, network=network, **settings), fits, summary
    )


_GRAY: tuple[DataKind, ...] = ("mnist", "fashion-mnist")
_SMALL: tuple[DataKind, ...] = ("digits", *_GRAY)
_QUICK = "half width, minutes on a CPU"
_HALF: dict[str, Any] = {"width": 0.5}
_PAPER_ADAM: dict[str, Any] = {"betas": (0.0, 0.9)}
_RMSPROP: dict[str, Any] = {"optimizer": "rmsprop"}
_SATURATING: dict[str, Any] = {"objective": "saturating", "lr": 1e-4, "epochs": 150}
_TUTORIAL: dict[str, Any] = {"batch_size": 128, "reuse_fakes": True, "epochs": 50}
_GENERATOR_FIRST: dict[str, Any] = {
    "generator_first": True,
    "reuse_fakes": True,
    "discriminator_loss_scale": 0.5,
    "epochs": 200,
}
_MLP28: dict[str, Any] = {"lr": 5e-5, "n_critic": 5, "epochs": 30}
# The loss of R3GAN (Huang et al. 2024), which is best on digits.
_RELATIVISTIC: dict[str, Any] = {"objective": "relativistic", "r1": 1.0, "r2": 1.0}
_RELATIVISTIC_DCGAN: dict[str, Any] = {"lr": 4e-4, "betas": (0.0, 0.99), "critic_norm": "none"} | _RELATIVISTIC
_R3: dict[str, Any] = {"penalty_every": 4, "steps": 5000} | _RELATIVISTIC_DCGAN
_SHORT_AVERAGE: dict[str, Any] = {"ema_decay": 0.99}  # for short runs
_PENALTY_DIGITS: dict[str, Any] = {"critic_norm": "layer", "steps": 2000} | _HALF | _PAPER_ADAM | _SHORT_AVERAGE

# Karras et al. 2018, appendix A.1, with the batch sizes of its published code on one GPU.
_PGGAN: dict[str, Any] = {
    "objective": "wgan-gp",
    "latent_dim": 512,
    "drift": 1e-3,
    "lr": 1e-3,
    "betas": (0.0, 0.99),
}
_PGGAN_BATCHES = {32: 64, 64: 32, 128: 16, 256: 8, 512: 4, 1024: 4}

# model, id, fits, summary, architecture, image size, settings that differ from the defaults of config.py
RECIPES = (
    _preset(
        "gan",
        "gan-digits",
        _SMALL,
        "fully connected, minutes on a CPU",
        "mlp-batchnorm",
        32,
        lr=1e-3,
        penalty_every=2,
        steps=4000,
        **_RELATIVISTIC,
    ),
    _preset("gan", "mlp-mnist", "mnist", "fully connected, dropout", "mlp-dropout", 28, **_GENERATOR_FIRST),
    _preset("gan", "mlp-fmnist", "fashion-mnist", "fully connected, one hidden layer", "mlp-shallow", 28, epochs=50),
    _preset("gan", "mlp-anime64", "images", "fully connected, saturating loss", "mlp-batchnorm", 64, **_SATURATING),
    _preset(
        "dcgan",
        "dcgan-digits",
        "digits",
        _QUICK,
        "dcgan-k4",
        32,
        penalty_every=4,
        steps=1500,
        **_RELATIVISTIC_DCGAN | _SHORT_AVERAGE | _HALF,
    ),
    _preset(
        "dcgan",
        "dcgan-mnist",
        _GRAY,
        _QUICK,
        "dcgan-k4",
        32,
        lr=1e-2,  # fifty times that of the tutorial, which batch norm in both networks can take
        betas=(0.0, 0.99),
        steps=1000,
        **_SHORT_AVERAGE | _HALF,
    ),
    _preset(
        "dcgan", "dcgan-upsample32", "mnist", "upsampling, 3x3 convolutions", "dcgan-upsample", 32, **_GENERATOR_FIRST
    ),
    _preset("dcgan", "dcgan-fmnist32", "fashion-mnist", "transposed convolutions", "dcgan-32", 32, epochs=50),
    _preset(
        "dcgan",
        "dcgan64-mnist",
        "mnist",
        "64x64, a slow discriminator",
        "dcgan-k4",
        64,
        lr=4e-4,
        discriminator_lr=1e-4,
        steps=5000,
        batch_size=128,
    ),
    _preset("dcgan", "dcgan64-r3", "images", "as dcgan-r3, at 64x64", "dcgan-k4", 64, **_R3),
    _preset("dcgan", "dcgan64-k4", "images", "the PyTorch tutorial's", "dcgan-k4", 64, **_TUTORIAL),
    _preset("dcgan", "dcgan64-k5", "images", "5x5 kernels, saturating loss", "dcgan-k5", 64, **_SATURATING),
    _preset(
        "dcgan",
        "dcgan-r3",
        (*_SMALL, "images"),
        "R3GAN's loss, no norm in the discriminator",
        "dcgan-k4",
        32,
        **_R3,
    ),
    _preset(
        "wgan",
        "wgan-digits",
        _SMALL,
        _QUICK,
        "dcgan-k4",
        32,
        lr=6e-4,
        steps=4000,
        **_HALF,
        **_RMSPROP,
        **_SHORT_AVERAGE,
    ),
    _preset("wgan", "mlp-wgan28", _GRAY, "fully connected", "mlp-batchnorm", 28, **_MLP28, **_RMSPROP),
    _preset("wgan", "wgan64-k4", "images", "one critic update per step", "dcgan-k4", 64, **_TUTORIAL, **_RMSPROP),
    _preset("wgan", "wgan64-k5", "images", "5x5 kernels", "dcgan-k5", 64, lr=5e-5, epochs=150, **_RMSPROP),
    _preset(
        "wgan",
        "wgan-paper",
        "images",
        "the paper's recipe and warm start",
        "dcgan-k4",
        64,
        lr=5e-5,
        epochs=100,
        n_critic=5,
        warm_start=True,
        **_RMSPROP,
    ),
    _preset("wgan-gp", "wgan-gp-digits", _SMALL, _QUICK, "dcgan-k4", 32, lr=1e-3, **_PENALTY_DIGITS),
    _preset("wgan-gp", "mlp-wgan28", _GRAY, "fully connected", "mlp-batchnorm", 28, **_MLP28),
    _preset(
        "wgan-gp", "wgan-gp", "images", "one critic update per step", "dcgan-k4", 64, critic_norm="layer", **_TUTORIAL
    ),
    _preset(
        "wgan-gp",
        "wgan-gp-paper",
        "images",
        "the paper's recipe, no norm in the critic",
        "dcgan-k4",
        64,
        critic_norm="none",
        lr=1e-4,
        epochs=100,
        n_critic=5,
        **_PAPER_ADAM,
    ),
    _preset("wgan-div", "wgan-div-digits", _SMALL, _QUICK, "dcgan-k4", 32, lr=5e-4, **_PENALTY_DIGITS),
    _preset(
        "wgan-div",
        "mlp-wgan28",
        _GRAY,
        "fully connected",
        "mlp-batchnorm",
        28,
        div_points="real-and-fake",
        **_MLP28,
    ),
    _preset(
        "wgan-div",
        "wgan-div",
        "images",
        "one critic update per step",
        "dcgan-k4",
        64,
        critic_norm="layer",
        **_TUTORIAL | {"epochs": 100},
    ),
    _preset(
        "wgan-div",
        "wgan-div-paper",
        "images",
        "the paper's penalty (k 2, p 6), its authors' recipe",
        "dcgan-k4",
        64,
        critic_norm="layer",
        epochs=100,
        n_critic=4,
        **_PAPER_ADAM,
    ),
    _preset(
        "pggan",
        "pggan-small",
        _SMALL,
        "a sixteenth of the width, short phases, minutes on a CPU",
        "pggan",
        32,
        width=1 / 16,
        batch_size=16,
        growth=GrowthConfig(stabilise_images=5_000, fade_images=5_000),
        images=60_000,
        ema_decay=0.99,
        evaluate_every_steps=500,
        **_PGGAN | {"lr": 8e-3},  # eight times the paper's, whose runs are two hundred times as long
    ),
    _preset(
        "pggan",
        "pggan-anime128",
        "images",
        "512 features up to 32x32, norm before activation",
        "pggan-anime128",
        128,
        batch_size=16,
        growth=GrowthConfig(stabilise_images=800_000, fade_images=800_000, blend_reals=False),
        images=9_600_000,
        **_PGGAN,
    ),
    _preset(
        "pggan",
        "pggan-paper",
        "images",
        "the paper's network and schedule",
        "pggan",
        1024,
        batch_size=128,
        growth=GrowthConfig(stabilise_images=600_000, fade_images=600_000, batch_sizes=_PGGAN_BATCHES),
        images=12_000_000,
        **_PGGAN,
    ),
    _cycle(
        "cyclegan-digits",
        _SMALL,
        "a quarter of the width, 3 blocks, minutes on a CPU",
        TranslatorConfig(image_size=32, channels=3, width=0.25, residual_blocks=3),
        batch_size=8,
        steps=1000,
        mirror=False,  # a mirrored digit is not a digit
        # The domains differ in brightness, which the identity loss would keep: see docs/training.md.
        identity_weight=0.0,
    ),
    _cycle(
        "cyclegan-small",
        "images",
        "half width, 6 blocks, for a CPU",
        TranslatorConfig(image_size=64, channels=3, width=0.5, residual_blocks=6, upsampling="nearest"),
        batch_size=4,
        epochs=60,
        jitter=True,
    ),
    _cycle(
        "cyclegan-64",
        "images",
        "9 blocks, resize-convolution, 94-pixel patches",
        TranslatorConfig(image_size=64, channels=3, residual_blocks=9, upsampling="nearest", patch_field=94),
        batch_size=64,
        epochs=200,
        jitter=True,
    ),
    _cycle(
        "cyclegan-paper128",
        "images",
        "the paper's 6 blocks at 128x128",
        TranslatorConfig(image_size=128, channels=3, residual_blocks=6),
        batch_size=1,
        epochs=200,
        jitter=True,
    ),
    _cycle(
        "cyclegan-paper",
        "images",
        "the paper's 9 blocks at 256x256",
        TranslatorConfig(image_size=256, channels=3, residual_blocks=9),
        batch_size=1,
        epochs=200,
        jitter=True,
    ),
)


PRESETS: dict[tuple[str, str], Preset] = {(entry.config.model, entry.config.preset): entry for entry in RECIPES}
MODELS: tuple[str, ...] = tuple(dict.fromkeys(entry.config.model for entry in RECIPES))


def choose_preset(model: str, name: str | None, dataset: str | None) -> AnyConfig:
    """The config of the named preset, or of the default for the data set; `dataset` replaces the preset's own.

    Raises:
        UserError: there is no such model or preset.
    """
    presets = {preset_id: preset for (owner, preset_id), preset in PRESETS.items() if owner == model}
    if not presets:
        raise UserError(f"--model {model!r}: choose one of {', '.join(MODELS)}, all")
    if name is not None and name not in presets:
        raise UserError(f"--preset {name!r}: the presets of {model} are {', '.join(presets)}")
    if name is not None:
        config = presets[name].config
    else:
        kind = "images" if dataset is not None and ":" in dataset else _LIKE.get(dataset or "", dataset or "digits")
        config = (
            next((preset.config for preset in presets.values() if kind in preset.fits), None)
            or next(iter(presets.values())).config
        )
    return config if dataset is None else replace(config, dataset=dataset)


def print_presets(progress: Progress) -> None:
    """Prints the table of --list-presets."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "preset", "made for", "network", "image", "batch", "length"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "batch" else "left")
    previous = ""
    for (model, name), preset in PRESETS.items():
        config, size = preset.config, shown_size(preset.config.network.size)
        label = model if model != previous else ""
        network = f"{config.network.architecture}: {preset.summary}"
        table.add_row(label, name, preset.made_for, network, size, str(config.batch_size), preset.length)
        previous = model
    progress.console.print(table)

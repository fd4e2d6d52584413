"""The flags of `python -m trainer`, in the groups of its help page, and the fields of the config that they set.

Imports neither torch nor the networks, so that `--help` and usage errors are fast.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import rich_click as click

MODELS: Final = ("gan", "dcgan", "wgan", "wgan-gp", "wgan-div", "pggan", "cyclegan")

# Flags that set fields of the config -> the fields, in the config itself or in its tables `network` and `growth`.
_SAME_NAME: Final = (
    *("data_root", "batch_size", "optimizer", "generator_lr", "discriminator_lr", "seed", "device", "deterministic"),
    *(
        "n_critic",
        "clip_value",
        "gp_weight",
        "div_k",
        "div_p",
        "drift",
        "r1",
        "r2",
        "penalty_every",
        "objective",
        "ema_decay",
        "on_collapse",
        "best_by",
        "inception_weights",
    ),
    *(
        "cycle_weight",
        "identity_weight",
        "pool_images",
        "keep_epochs",
        "mirror",
        "jitter",
        "domains",
        "augment",
        "init_from",
    ),
)
FIELDS: Final = {name: name for name in _SAME_NAME} | {
    "max_corrupt": "max_corrupt_images",
    "checkpoint": "init_checkpoint",
    "beta1": "betas.0",
    "beta2": "betas.1",
    "compile": "compile_networks",
    "eval_every": "evaluate_every_steps",
    "eval_images": "evaluation_images",
    **{name: f"growth.{name}" for name in ("stabilise_images", "fade_images")},
    **{
        name: f"network.{name}"
        for name in ("image_size", "latent_dim", "width", "critic_norm", "spectral_norm", "residual_blocks")
    },
}


_PATH: Final = click.Path(path_type=Path)


def _flag(*names: str, **settings: Any) -> dict[str, Any]:
    return {"names": names, **settings}


GROUPS: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "Model and data": (
        _flag("--model", metavar="MODEL", help=f"Model to train: {', '.join(MODELS)}, or all of them in turn."),
        _flag(
            "--preset",
            metavar="ID",
            help="Recipe of the model. Default: the one for the data set; for own pictures, from their number.",
        ),
        _flag(
            "--config",
            type=_PATH,
            metavar="RUN",
            help="Settings of a new run instead of a preset: those of another run, or a JSON file of --dry-run.",
        ),
        _flag(
            "--init-from",
            metavar="RUN",
            help="Begin with the weights of another run; without --model, with its settings too.",
        ),
        _flag("--checkpoint", metavar="NAME", help="Checkpoint of --init-from: best (default), last or epoch-0007."),
        _flag("--list-presets", is_flag=True, default=None, help="List the presets of every model and exit."),
        _flag(
            "--dataset",
            metavar="DATA",
            help="digits, mnist, fashion-mnist, stacked-mnist, cifar10, celeba, or the path of a folder or zip file.",
        ),
        _flag("--data-root", metavar="FOLDER", help="Folder of torchvision's data sets; missing files are downloaded."),
        _flag("--max-corrupt", type=int, help="Unreadable images to skip before the run fails."),
        _flag("--image-size", type=int, help="Height and width of the images, in pixels."),
    ),
    "Length": (
        _flag("--epochs", type=int, help="Passes over the data. Give one of --epochs, --steps and --images."),
        _flag("--steps", type=int, help="Training steps, each on one batch of real images."),
        _flag("--images", type=int, help="Real images shown in total."),
        _flag("--resume", type=_PATH, metavar="RUN", help="Continue the run in this folder."),
    ),
    "Recipe": (
        _flag("--batch-size", type=int, help="Real images per step, over all processes."),
        _flag("--lr", type=float, help="Learning rate of both networks."),
        _flag("--generator-lr", type=float, help="Learning rate of the generator."),
        _flag("--discriminator-lr", type=float, help="Learning rate of the discriminator or critic."),
        _flag("--width", type=float, help="Scale the number of features in every hidden layer."),
        _flag("--seed", type=int, help="Seed for weights, latents and the order of images."),
        _flag("--device", metavar="[auto|cpu|cuda]", help="Device to train on."),
        _flag(
            "--precision",
            metavar="[auto|fp32|bf16]",
            help="Precision of the layers. auto (default): bf16 where it is faster.",
        ),
        _flag(
            "--compile/--no-compile",
            default=None,
            help="Compile the networks with torch.compile. Meant for GPUs; slower on a CPU.",
        ),
        _flag("--set", multiple=True, metavar="KEY=VALUE", help="Any field of the config; see --dry-run; repeatable."),
        _flag("--deterministic", is_flag=True, default=None, help="Make CUDA runs bit-identical; slower."),
    ),
    "Per model": (
        _flag("--optimizer", metavar="[adam|rmsprop|sgd]", help="All but cyclegan: optimizer of both networks."),
        _flag("--beta1", type=float, help="Decay rate of Adam's first moment."),
        _flag("--beta2", type=float, help="Decay rate of Adam's second moment."),
        _flag("--ema-decay", type=float, help="All but cyclegan: decay rate of the averaged generator."),
        _flag("--n-critic", type=int, help="All but cyclegan: discriminator updates per generator update."),
        _flag("--latent-dim", type=int, help="All but cyclegan: number of values in a latent."),
        _flag(
            "--critic-norm",
            metavar="[batch|instance|layer|none]",
            help="Convolutional gan, dcgan, wgan*: normalisation in the discriminator.",
        ),
        _flag(
            "--objective",
            metavar="LOSS",
            help="gan, dcgan: nonsaturating, saturating, hinge, lsgan or relativistic.",
        ),
        _flag("--r1", type=float, help="All but cyclegan: weight of the R1 penalty, on the gradient at real images."),
        _flag("--r2", type=float, help="All but cyclegan: weight of the R2 penalty, on the gradient at fakes."),
        _flag("--penalty-every", type=int, help="All but cyclegan: apply --r1 and --r2 in every N-th update only."),
        _flag(
            "--spectral-norm/--no-spectral-norm",
            default=None,
            help="All but pggan, cyclegan: divide the discriminator's weights by their largest singular value.",
        ),
        _flag("--drift", type=float, help="All but cyclegan: weight of the mean squared critic score of real images."),
        _flag("--clip-value", type=float, help="wgan: clip critic weights to +- this value."),
        _flag("--gp-weight", type=float, help="wgan-gp, pggan: weight of the gradient penalty."),
        _flag("--div-k", type=float, help="wgan-div: weight k of the divergence penalty."),
        _flag("--div-p", type=float, help="wgan-div: power p of the gradient norm."),
        _flag("--stabilise-images", type=int, help="pggan: real images shown at each size."),
        _flag("--fade-images", type=int, help="pggan: real images shown while a new size fades in."),
        _flag("--domains", nargs=2, metavar="A B", help="cyclegan: names of the domains, used to name the bundles."),
        _flag("--cycle-weight", type=float, help="cyclegan: weight of the cycle-consistency loss."),
        _flag("--identity-weight", type=float, help="cyclegan: weight of the identity loss."),
        _flag("--pool-images", type=int, help="cyclegan: earlier fakes kept to show to each discriminator."),
        _flag("--mirror/--no-mirror", default=None, help="Mirror half of the training images at random."),
        _flag("--jitter/--no-jitter", default=None, help="cyclegan: enlarge training images a little, crop at random."),
        _flag(
            "--augment",
            metavar="LIST",
            help="All but cyclegan: colour,translation,cutout or some of them, for few images; or none.",
        ),
        _flag("--residual-blocks", type=int, help="cyclegan: residual blocks per generator."),
        _flag("--keep-epochs", type=int, help="cyclegan: keep the networks of every N-th epoch."),
    ),
    "Output": (
        _flag("--out", type=_PATH, help="Folder to create run folders in.  [default: runs]"),
        _flag("--eval-every", type=int, help="Steps between evaluations; each waits for the next sample grid."),
        _flag("--eval-images", type=int, help="Real and generated images per evaluation."),
        _flag(
            "--best-by",
            metavar="METRIC",
            help="Metric that chooses the best checkpoint. Default: frechet_distance; for pggan"
            " sliced_wasserstein_distance, for cyclegan paired_l1.",
        ),
        _flag(
            "--inception-weights",
            metavar="FILE",
            help="All but cyclegan: measure FID and KID too, with these weights; slow on a CPU.",
        ),
        _flag("--on-collapse", metavar="[warn|stop]", help="What to do when the run stops making progress."),
        _flag("--wandb", metavar="PROJECT", help="Also log to this Weights & Biases project, if wandb is installed."),
        _flag(
            "--show-config", is_flag=True, default=None, help="Show all flags with their values in this run, and exit."
        ),
        _flag("--dry-run", is_flag=True, default=None, help="Inspect the data, print the resolved config and exit."),
    ),
}


def training_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds all flags to a command."""
    for group in reversed(GROUPS):
        for flag in reversed(GROUPS[group]):
            settings = dict(flag)
            command = click.option(*settings.pop("names"), panel=group, **settings)(command)
    return command

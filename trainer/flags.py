"""The flags of `python -m trainer`, and the fields of the config that they set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from trainer.presets import MODELS

# Flags that set fields of the config; a name with a dot is a field of the network.
FIELDS: Final = {
    "data_root": "data_root",
    "max_corrupt": "max_corrupt_images",
    "batch_size": "batch_size",
    "optimizer": "optimizer",
    "n_critic": "n_critic",
    "clip_value": "clip_value",
    "gp_weight": "gp_weight",
    "div_k": "div_k",
    "div_p": "div_p",
    "drift": "drift",
    "cycle_weight": "cycle_weight",
    "identity_weight": "identity_weight",
    "pool_images": "pool_images",
    "keep_epochs": "keep_epochs",
    "mirror": "mirror",
    "domains": "domains",
    "stabilise_images": "growth.stabilise_images",
    "fade_images": "growth.fade_images",
    "residual_blocks": "network.residual_blocks",
    "critic_norm": "network.critic_norm",
    "image_size": "network.image_size",
    "latent_dim": "network.latent_dim",
    "width": "network.width",
    "seed": "seed",
    "device": "device",
    "generator_lr": "generator_lr",
    "discriminator_lr": "discriminator_lr",
    "compile": "compile_networks",
    "deterministic": "deterministic",
    "on_collapse": "on_collapse",
    "eval_every": "evaluate_every_steps",
    "eval_images": "evaluation_images",
    "best_by": "best_by",
}

_OPTIONS: Final = (
    click.option("--model", help=f"What to train: {', '.join(MODELS)}, or all of them in turn.", metavar="MODEL"),
    click.option("--preset", help="A recipe of the model; by default the one that fits the data set.", metavar="ID"),
    click.option("--dataset", help="digits, mnist, fashion-mnist, folder:PATH or zip:PATH.", metavar="DATA"),
    click.option("--data-root", help="Where mnist and fashion-mnist lie, or are downloaded to.", metavar="FOLDER"),
    click.option("--max-corrupt", type=int, help="Unreadable images to skip before giving up."),
    click.option("--epochs", type=int, help="Passes over the data."),
    click.option("--steps", type=int, help="Batches of real images, instead of --epochs."),
    click.option("--images", type=int, help="Real images in all batches, instead of --epochs."),
    click.option("--batch-size", type=int),
    click.option("--lr", type=float, help="Learning rate of both networks."),
    click.option("--generator-lr", type=float, help="Of the generator alone."),
    click.option("--discriminator-lr", type=float, help="Of the discriminator or critic alone."),
    click.option("--optimizer", metavar="[adam|rmsprop|sgd]"),
    click.option("--n-critic", type=int, help="Discriminator updates a generator update."),
    click.option("--clip-value", type=float, help="wgan: critic weights are kept within +- this."),
    click.option("--gp-weight", type=float, help="wgan-gp: weight of the gradient penalty."),
    click.option("--div-k", type=float, help="wgan-div: weight of the penalty."),
    click.option("--div-p", type=float, help="wgan-div: power of the gradient's norm."),
    click.option("--drift", type=float, help="Weight of the critic's mean squared score of reals."),
    click.option("--stabilise-images", type=int, help="pggan: real images shown at each size."),
    click.option("--fade-images", type=int, help="pggan: real images shown while a new size fades in."),
    click.option("--domains", nargs=2, metavar="A B", help="cyclegan: names of the domains, and so of the bundles."),
    click.option("--cycle-weight", type=float, help="cyclegan: weight of the way there and back."),
    click.option("--identity-weight", type=float, help="cyclegan: weight of leaving be what belongs to a domain."),
    click.option("--pool-images", type=int, help="cyclegan: earlier fakes that a discriminator is shown."),
    click.option("--mirror/--no-mirror", default=None, help="cyclegan: show half of the images mirrored."),
    click.option("--residual-blocks", type=int, help="cyclegan: depth of the generators."),
    click.option("--keep-epochs", type=int, help="cyclegan: keep the networks of every so many epochs."),
    click.option("--critic-norm", metavar="[batch|instance|layer|none]", help="Normalisation in the discriminator."),
    click.option("--image-size", type=int, help="Height and width, in pixels."),
    click.option("--latent-dim", type=int),
    click.option("--width", type=float, help="Multiplies the features of every hidden layer."),
    click.option("--seed", type=int),
    click.option("--device", metavar="[auto|cpu|cuda]"),
    click.option(
        "--precision",
        metavar="[auto|fp32|bf16]",
        help="Of the layers in a step; auto: bf16 where the network and the device gain by it.  [default: auto]",
    ),
    click.option(
        "--compile/--no-compile",
        default=None,
        help="Compile the networks of a step with torch.compile; on a CPU that is slower.",
    ),
    click.option("--deterministic", is_flag=True, default=None, help="CUDA: the same bits every time, more slowly."),
    click.option("--on-collapse", metavar="[warn|stop]", help="What to do when a training leads nowhere."),
    click.option("--eval-every", type=int, help="Evaluate at the ends of epochs, this many steps apart."),
    click.option("--eval-images", type=int, help="Real and fake images of an evaluation during training."),
    click.option("--best-by", metavar="METRIC", help="The metric that chooses the best checkpoint."),
    click.option("--wandb", help="Log to this project of Weights & Biases too, if it is installed.", metavar="PROJECT"),
    click.option("--out", type=click.Path(path_type=Path), help="Where run folders are made.  [default: runs]"),
    click.option("--resume", type=click.Path(path_type=Path), help="Go on with this run.", metavar="RUN"),
    click.option("--dry-run", is_flag=True, help="Print the resolved config and exit."),
)


def training_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command all of them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command

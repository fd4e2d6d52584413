"""The claims: a table of sentences, their sources, how each is tested, and what others have found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.claims import analyses
from benchmarks.claims.evidence import Evidence
from benchmarks.claims.measures import Group
from benchmarks.claims.statistics import Effect
from trainer.errors import UserError


@dataclass(frozen=True)
class Claim:
    """A testable sentence."""

    id: str
    sentence: str
    source: str
    subjects: tuple[str, ...]
    groups: tuple[Group, ...]  # of metrics to measure at every snapshot; `latents` only at the last
    analyse: Callable[[Evidence], list[Effect]]
    method: str  # what decides the verdict
    outside: str  # what others report, and how far to trust it
    curves: tuple[str, ...] = ()  # subjects whose losses and scores the page shows


_ANIME = "write-up on anime faces"
_FASHION = "write-up on Fashion-MNIST"
_MNIST = "write-up on MNIST"
_SWEEPS = "write-up on batch sizes and rates"
_CELLS = ("cell-128-2", "cell-512-2", "cell-1024-2", "cell-128-1", "cell-128-3")

_TABLE = (
    Claim(
        "C1",
        "Fully connected GANs make blurred images, DCGANs sharper ones.",
        f"{_ANIME}, {_FASHION}, {_MNIST}",
        ("fc-fashion", "dcgan-fashion", "fc-mnist", "dcgan-mnist"),
        ("pixels", "features"),
        analyses.sharpness,
        "After equal epochs DCGAN's variance of the Laplacian over that of reals is larger than FC's, and its Frechet"
        " distance smaller, on both data sets. Noise is sharp too: compare the distance from reals.",
        "Widely reported.",
    ),
    Claim(
        "C2",
        "DCGAN with 5x5 kernels shows diagonal stripes at 10 epochs, which are gone by 50; WGAN shows none.",
        _ANIME,
        ("dcgan-faces", "wgan-faces"),
        ("pixels",),
        analyses.stripes,
        "In the mean log spectrum of fakes less that of reals, directions near a diagonal stand out more in DCGAN at"
        " epoch 10 than at epoch 50, and more than in WGAN at epoch 10.",
        "Patterns of transposed convolutions are known (Odena et al. 2016); they often fade during training.",
    ),
    Claim(
        "C3",
        "WGAN is better than DCGAN with the same convolutions.",
        _ANIME,
        ("wgan-faces", "dcgan-faces"),
        ("features",),
        analyses.wgan_is_better,
        "The Frechet distance of WGAN is smaller than that of DCGAN at the last epoch.",
        "Mixed. Tuned, WGAN has the better FID in Lucic et al. 2018 (Fashion-MNIST 21.5 against 26.5, CelebA 41.3"
        " against 55.0); PyTorch-StudioGAN reports 107.7 against 48.3 on CIFAR-10.",
    ),
    Claim(
        "C4",
        "Samples of WGAN are more varied than those of DCGAN, which are more varied than those of FC.",
        _ANIME,
        ("fc-faces", "dcgan-faces", "wgan-faces"),
        ("pixels", "features"),
        analyses.variety,
        "Recall and coverage at the last epoch are larger for WGAN than for DCGAN, and for DCGAN than for FC.",
        "The opposite on CIFAR-10 in PyTorch-StudioGAN: recall 0.02 for WGAN, 0.21 for DCGAN.",
    ),
    Claim(
        "C5",
        "WGAN is less sharp than DCGAN at 10 epochs, and has caught up by 50.",
        _ANIME,
        ("wgan-faces", "dcgan-faces"),
        ("pixels",),
        analyses.wgan_catches_up,
        "Variance of the Laplacian over that of reals is smaller for WGAN at epoch 10, and the difference rises from"
        " there to epoch 50, seed by seed.",
        "Plausible: RMSprop at 5e-5 is slow. No measurement is known.",
    ),
    Claim(
        "C6",
        "FC on Fashion-MNIST: D's loss rises and G's falls. DCGAN: D's loss stays low and G's rises.",
        _FASHION,
        ("fc-fashion", "dcgan-fashion"),
        (),
        analyses.losses,
        "Theil-Sen slopes over the last 80 % of the steps, times their number: FC's D above 0, FC's G below 0,"
        " DCGAN's G above 0; and D's mean loss over the last 20 % is lower for DCGAN than for FC.",
        "That DCGAN's D wins is widely reported; PyTorch-StudioGAN's log ends at a D loss of 0.0019, a G loss of 9.7.",
        curves=("fc-fashion", "dcgan-fashion"),
    ),
    Claim(
        "C7",
        "A single latent coordinate changes the image more in DCGAN than in FC.",
        _FASHION,
        ("fc-fashion", "dcgan-fashion"),
        ("latents",),
        analyses.latents,
        "Mean absolute change of a pixel, as a share of black to white, between -3 and +3 of each coordinate in turn,"
        " is larger for DCGAN. The map shows where.",
        "None known.",
    ),
    Claim(
        "C8",
        "FC needs more than 50 epochs to show digits, DCGAN shows them at epoch 2.",
        _MNIST,
        ("fc-mnist", "dcgan-mnist"),
        ("features",),
        analyses.first_digits,
        "The first epoch at which a classifier is more than 0.9 sure of half of the samples is later for FC. At full"
        " scale also: less than half at epoch 50 for FC, more than half at epoch 2 for DCGAN.",
        "Widely reported. A classifier may be sure of noise: compare the precision.",
    ),
    Claim(
        "C9",
        "In balance, D(x) and D(G(z)) are near 1/2.",
        _MNIST,
        ("dcgan-mnist", "fc-mnist", "cell-128-2"),
        (),
        analyses.balance,
        f"Mean distance from 1/2 over the last 20 % of the steps is under {analyses.BALANCE} for D(x) and for D(G(z))"
        " of this write-up's DCGAN. A D that cannot tell reals from fakes is in balance too: compare its accuracy.",
        "The theory of the game (Goodfellow et al. 2014); plain DCGANs are not expected to reach it.",
        curves=("dcgan-mnist", "fc-mnist", "cell-128-2"),
    ),
    Claim(
        "C10",
        "RMSprop works in place of Adam; Adam if possible.",
        f"{_SWEEPS}, {_MNIST}",
        ("adam-faces", "rmsprop-faces"),
        ("features",),
        analyses.optimisers,
        "The Frechet distance of DCGAN after 30 epochs is larger with RMSprop than with Adam.",
        "None known for these networks.",
        curves=("adam-faces", "rmsprop-faces"),
    ),
    Claim(
        "C11",
        "More D steps per G step gain little on MNIST.",
        _MNIST,
        ("dcgan-mnist", "dcgan-mnist-2", "dcgan-mnist-5"),
        ("features",),
        analyses.critic_steps,
        f"With 2 and with 5 D steps the Frechet distance is less than {analyses.LITTLE:.0%} smaller than with 1, after"
        " equal G steps and after equal time.",
        "None known.",
    ),
    Claim(
        "C12",
        "The loss of WGAN follows the quality of its samples.",
        "README of the WGAN authors' code",
        ("wgan-loss",),
        ("features",),
        analyses.loss_tells_quality,
        "Spearman's correlation over checkpoints of minus the critic's loss, median-filtered over 101 steps, with the"
        " Frechet distance is above 0.",
        "The filter is the authors'; they show curves but no correlation.",
        curves=("wgan-loss",),
    ),
    Claim(
        "C13",
        "Batches of 512 and 1024 do worse than 128 after equal epochs; rates from 1e-4 to 3e-4 differ.",
        f"{_SWEEPS} (pictures alone)",
        _CELLS,
        ("features",),
        analyses.batch_and_rate,
        "The Frechet distance at batch 512 and at 1024 is larger than at 128, all at rate 2e-4. Rates are compared at"
        " batch 128, without a direction.",
        "Larger batches take fewer steps in equal epochs, so worse is expected.",
        curves=_CELLS,
    ),
)

CLAIMS: dict[str, Claim] = {claim.id: claim for claim in _TABLE}


def choose_claims(names: str) -> list[Claim]:
    """The claims of a list such as "C1,c6", or all of them for "all"; in the order of the table.

    Raises:
        UserError: no such claim.
    """
    if names == "all":
        return list(CLAIMS.values())
    wanted = {name.strip().upper() for name in names.split(",")}
    for name in sorted(wanted - set(CLAIMS)):
        raise UserError(f"--claims {name!r}: choose from {', '.join(CLAIMS)}, or all")
    return [claim for name, claim in CLAIMS.items() if name in wanted]

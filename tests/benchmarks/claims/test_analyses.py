from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.claims.analyses import EQUAL_GENERATOR_STEPS
from benchmarks.claims.claims import CLAIMS
from benchmarks.claims.statistics import Floats, judge
from benchmarks.claims.subjects import SUBJECTS, Scale
from tests.benchmarks.claims.made_up import Curve, Metric, flat, made_up


@dataclass(frozen=True)
class World:
    """Measurements for which a claim is true, and for which its opposite is."""

    true: Metric = lambda *_: 1.0
    false: Metric = lambda *_: 1.0
    true_curve: Curve = flat
    false_curve: Curve = flat


def ranked(*order: str, up: tuple[str, ...] = (), down: tuple[str, ...] = ()) -> Metric:
    """Along subjects whose names begin with each of `order`, metrics in `up` grow and those in `down` shrink."""

    def metric(subject: str, _epoch: int, name: str) -> float:
        place = next(index for index, start in enumerate(order, 1) if subject.startswith(start))
        return place if name in up else 1 / place if name in down else 1.0

    return metric


def rising(rises: dict[tuple[str, str], float], level: dict[str, float] | None = None) -> Curve:
    """Curves of (subject, name) that rise by the given amounts; others are flat."""

    def curve(subject: str, name: str, steps: int) -> Floats:
        start = (level or {}).get(subject, 5.0) if name == "d_loss" else 5.0
        line: Floats = start + rises.get((subject, name), 0.0) * np.linspace(0, 1, steps)
        return line

    return curve


def fading(subject: str, epoch: int, name: str) -> float:
    return 3.0 if (subject, epoch, name) == ("dcgan-faces", 10, "diagonal_stripes_db") else 1.0


def lasting(subject: str, epoch: int, name: str) -> float:
    return 3.0 if name == "diagonal_stripes_db" and (subject, epoch) != ("dcgan-faces", 10) else 1.0


def catching_up(subject: str, epoch: int, name: str) -> float:
    return 0.2 if (subject, epoch, name) == ("wgan-faces", 10, "laplacian_ratio") else 1.0


def falling_behind(subject: str, epoch: int, name: str) -> float:
    return 3.0 if (subject, epoch, name) == ("wgan-faces", 10, "laplacian_ratio") else 1.0


def sure_early(subject: str, epoch: int, name: str) -> float:
    if name != "sure_share":
        return 1.0
    return 0.9 if subject.startswith("dcgan") or epoch > 55 else 0.1


def sure_late(subject: str, epoch: int, name: str) -> float:
    return sure_early("fc" if subject.startswith("dcgan") else "dcgan", epoch, name)


def helps(gain: float) -> Metric:
    return lambda subject, _epoch, name: (1 - gain) * 10 if name == "frechet_distance" and subject[-1] in "25" else 10.0


def falls(_subject: str, epoch: int, name: str) -> float:
    return 100.0 - epoch / 2 if name == "frechet_distance" else 1.0


def confidence(distance: float) -> Curve:
    return lambda _subject, name, steps: np.full(steps, 0.5 + (distance if name == "d_real" else -distance))


TELLING = rising({("wgan-loss", "d_loss"): 3.0})
MISLEADING = rising({("wgan-loss", "d_loss"): -3.0})
AS_SAID = rising(
    {("fc-fashion", "d_loss"): 1, ("fc-fashion", "g_loss"): -1, ("dcgan-fashion", "g_loss"): 1},
    {"dcgan-fashion": 0.5},
)
TURNED = rising(
    {("fc-fashion", "d_loss"): -1, ("fc-fashion", "g_loss"): 1, ("dcgan-fashion", "g_loss"): -1},
    {"dcgan-fashion": 9.0},
)
QUALITY = ("recall", "coverage")
SHARP = {"up": ("laplacian_ratio",), "down": ("frechet_distance",)}
WORLDS = {
    "C1": World(ranked("fc", "dcgan", **SHARP), ranked("dcgan", "fc", **SHARP)),
    "C2": World(fading, lasting),
    "C3": World(
        ranked("dcgan", "wgan", down=("frechet_distance",)), ranked("wgan", "dcgan", down=("frechet_distance",))
    ),
    "C4": World(ranked("fc", "dcgan", "wgan", up=QUALITY), ranked("wgan", "dcgan", "fc", up=QUALITY)),
    "C5": World(catching_up, falling_behind),
    "C6": World(true_curve=AS_SAID, false_curve=TURNED),
    "C7": World(ranked("fc", "dcgan", up=("latent_change",)), ranked("dcgan", "fc", up=("latent_change",))),
    "C8": World(sure_early, sure_late),
    "C9": World(true_curve=confidence(0.02), false_curve=confidence(0.4)),
    "C10": World(
        ranked("adam", "rmsprop", up=("frechet_distance",)), ranked("rmsprop", "adam", up=("frechet_distance",))
    ),
    "C11": World(helps(0.02), helps(0.5)),
    "C12": World(falls, falls, TELLING, MISLEADING),
    "C13": World(
        ranked("cell-128", "cell-512", "cell-1024", up=("frechet_distance",)),
        ranked("cell-1024", "cell-512", "cell-128", up=("frechet_distance",)),
    ),
}


@pytest.mark.parametrize("scale", ["quick", "full"])
@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_can_be_supported_and_contradicted(name: str, scale: Scale) -> None:
    claim, world = CLAIMS[name], WORLDS[name]
    true = claim.analyse(made_up(scale, claim.subjects, world.true, world.true_curve))
    false = claim.analyse(made_up(scale, claim.subjects, world.false, world.false_curve))
    assert judge(true)[0] == "supported", [(effect.name, effect.low, effect.high) for effect in true if effect.decides]
    assert judge(false)[0] == "contradicted"


@pytest.mark.parametrize("name", CLAIMS)
def test_no_claim_is_decided_by_one_seed(name: str) -> None:
    claim, world = CLAIMS[name], WORLDS[name]
    assert judge(claim.analyse(made_up("quick", claim.subjects, world.true, world.true_curve, seeds=1)))[0] == "unclear"


@pytest.mark.parametrize("name", CLAIMS)
def test_equal_runs_support_only_the_claim_of_little_gain(name: str) -> None:
    claim = CLAIMS[name]
    verdict, _ = judge(claim.analyse(made_up("quick", claim.subjects, lambda *_: 1.0)))
    assert (verdict == "supported") == (name == "C11")


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_runs_have_snapshots_at_equal_generator_steps(scale: Scale) -> None:
    epoch = EQUAL_GENERATOR_STEPS[scale]
    for count, subject in ((1, "dcgan-mnist"), (2, "dcgan-mnist-2"), (5, "dcgan-mnist-5")):
        assert epoch * count in SUBJECTS[subject].epochs(scale)
        assert SUBJECTS[subject].settings.get("n_critic", 1) == count


def test_times_that_do_not_overlap_are_an_error() -> None:
    claim = CLAIMS["C11"]
    evidence = made_up("quick", claim.subjects, helps(0.5))
    slow = made_up("quick", claim.subjects, helps(0.5), step_s=1000.0)
    mixed = {name: (slow if name.endswith("5") else evidence).courses[name] for name in claim.subjects}
    with pytest.raises(ValueError, match="outside"):
        claim.analyse(type(evidence)("quick", mixed))

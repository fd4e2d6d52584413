"""The effects that decide each claim: pure functions of `Evidence`, one per claim."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.claims import curves
from benchmarks.claims.evidence import Course, Evidence
from benchmarks.claims.statistics import Effect, Group, Side, difference, location, rank_difference
from benchmarks.claims.subjects import SUBJECTS

BALANCE = 0.1  # D(x) or D(G(z)) within this distance of 1/2 counts as balanced
LITTLE = 0.1  # a gain below this share of the Frechet distance counts as small
HALF = 0.5  # share of samples: above it, most are digits
EQUAL_GENERATOR_STEPS = {"quick": 4, "full": 30}  # epochs of the run with one D step per G step


def sharpness(evidence: Evidence) -> list[Effect]:
    """C1."""
    effects = []
    for data in ("fashion", "mnist"):
        fc, dcgan = f"fc-{data}", f"dcgan-{data}"
        epoch = evidence.epochs(fc)[-1]
        effects += [
            _compare(evidence, "Laplacian variance over that of reals", "laplacian_ratio", dcgan, fc, epoch, "above"),
            _compare(evidence, "Frechet distance", "frechet_distance", dcgan, fc, epoch, "below"),
            _compare(evidence, "high-frequency share", "high_frequency_share", dcgan, fc, epoch),
            difference(
                f"distance of the Laplacian variance from that of reals (octaves), {_at(evidence, epoch)}",
                _octaves_off(evidence, dcgan, epoch),
                _octaves_off(evidence, fc, epoch),
            ),
        ]
    return effects


def stripes(evidence: Evidence) -> list[Effect]:
    """C2."""
    names = {"diagonal_stripes_db": "diagonal stripes (dB)", "stride_peaks_db": "peaks at 1/4 and 1/2 (dB)"}
    effects = []
    for metric, text in names.items():
        claimed: Side | None = "above" if metric == "diagonal_stripes_db" else None
        fading = evidence.each("dcgan-faces", "DCGAN", partial(_drop, metric, 10, 50))
        effects += [
            location(f"{text} of DCGAN, {_at(evidence, 10)} less {_at(evidence, 50)}", fading, claimed),
            _compare(evidence, text, metric, "dcgan-faces", "wgan-faces", 10, claimed),
        ]
    return effects


def wgan_is_better(evidence: Evidence) -> list[Effect]:
    """C3."""
    epochs = evidence.epochs("wgan-faces")
    last = epochs[-1]
    effects = [_compare(evidence, "Frechet distance", "frechet_distance", "wgan-faces", "dcgan-faces", last, "below")]
    reported = [("Frechet distance", "frechet_distance", epoch) for epoch in epochs[:-1]]
    reported += [("recall", "recall", last), ("coverage", "coverage", last)]
    return effects + [
        _compare(evidence, text, metric, "wgan-faces", "dcgan-faces", epoch) for text, metric, epoch in reported
    ]


def variety(evidence: Evidence) -> list[Effect]:
    """C4."""
    effects = []
    for more, less in (("wgan-faces", "dcgan-faces"), ("dcgan-faces", "fc-faces")):
        epoch = evidence.epochs(more)[-1]
        effects += [
            _compare(evidence, "recall", "recall", more, less, epoch, "above"),
            _compare(evidence, "coverage", "coverage", more, less, epoch, "above"),
            _compare(evidence, "mean distance of pairs of features", "pairwise_distance", more, less, epoch),
            _compare(evidence, "MS-SSIM between samples", "ms_ssim", more, less, epoch),
        ]
    return effects


def wgan_catches_up(evidence: Evidence) -> list[Effect]:
    """C5."""

    def gap(seed: int, epoch: int) -> float:
        wgan, dcgan = (evidence.courses[name][seed].metrics[epoch] for name in ("wgan-faces", "dcgan-faces"))
        return float(wgan["laplacian_ratio"]) - float(dcgan["laplacian_ratio"])

    closing = [gap(seed, 50) - gap(seed, 10) for seed in evidence.seeds("wgan-faces", "dcgan-faces")]
    text = "Laplacian variance over that of reals"
    return [
        _compare(evidence, text, "laplacian_ratio", "wgan-faces", "dcgan-faces", 10, "below"),
        location(
            f"{text}: gain of WGAN on DCGAN from {_at(evidence, 10)} to {_at(evidence, 50)}",
            ("gain", closing),
            "above",
        ),
        _compare(evidence, text, "laplacian_ratio", "wgan-faces", "dcgan-faces", 50),
    ]


def losses(evidence: Evidence) -> list[Effect]:
    """C6."""

    def rise(subject: str, curve: str) -> Group:
        return evidence.each(subject, SUBJECTS[subject].title, lambda course: curves.change(course.curves[curve]))

    def end(subject: str, curve: str) -> Group:
        return evidence.each(subject, SUBJECTS[subject].title, partial(_end, curve))

    fc, dcgan = "fc-fashion", "dcgan-fashion"
    return [
        location("FC: change of D's loss", rise(fc, "d_loss"), "above"),
        location("FC: change of G's loss", rise(fc, "g_loss"), "below"),
        location("DCGAN: change of G's loss", rise(dcgan, "g_loss"), "above"),
        difference("D's loss at the end, DCGAN less FC", end(dcgan, "d_loss"), end(fc, "d_loss"), "below"),
        location("DCGAN: change of D's loss", rise(dcgan, "d_loss")),
        location("FC: D's accuracy at the end", end(fc, "d_accuracy")),
        location("DCGAN: D's accuracy at the end", end(dcgan, "d_accuracy")),
    ]


def latents(evidence: Evidence) -> list[Effect]:
    """C7."""
    fc, dcgan = "fc-fashion", "dcgan-fashion"
    epoch = evidence.epochs(fc)[-1]
    effects = [
        _compare(evidence, "mean change of a pixel, -3 to +3", "latent_change", dcgan, fc, epoch, "above"),
        _compare(evidence, "that change over the difference of two samples", "latent_share", dcgan, fc, epoch),
    ]
    for place in ("top", "centre", "border"):
        text = f"change at the {place} over the mean change"
        effects.append(_compare(evidence, text, f"change_{place}", dcgan, fc, epoch))
    return effects


def first_digits(evidence: Evidence) -> list[Effect]:
    """C8."""
    fc, dcgan = "fc-mnist", "dcgan-mnist"

    def first(course: Course) -> float:
        shares = [float(metrics["sure_share"]) for metrics in course.metrics.values()]
        return curves.first_past(list(course.metrics), shares, HALF)

    literal = evidence.scale == "full"  # the claim's epochs exist at full scale only
    late, soon = (50, 2)
    late = late if late in evidence.epochs(fc) else evidence.epochs(fc)[-1]
    sure = "share of samples that a classifier is sure of"
    titles = {name: SUBJECTS[name].title for name in (fc, dcgan)}
    return [
        rank_difference(
            "first epoch at which a classifier is sure of half of the samples, FC against DCGAN",
            evidence.each(fc, titles[fc], first),
            evidence.each(dcgan, titles[dcgan], first),
            "above",
        ),
        location(
            f"FC: {sure}, {_at(evidence, late)}",
            evidence.metric(fc, "sure_share", late),
            "below" if literal else None,
            reference=HALF,
        ),
        location(
            f"DCGAN: {sure}, {_at(evidence, soon)}",
            evidence.metric(dcgan, "sure_share", soon),
            "above" if literal else None,
            reference=HALF,
        ),
        _compare(evidence, sure, "sure_share", dcgan, fc, evidence.epochs(fc)[-1]),
        # A classifier may be sure of noise; precision shows whether samples resemble digits.
        _compare(evidence, "precision", "precision", dcgan, fc, evidence.epochs(fc)[-1]),
    ]


def balance(evidence: Evidence) -> list[Effect]:
    """C9."""
    effects = []
    for subject in ("dcgan-mnist", "fc-mnist", "cell-128-2"):
        for curve, text in (("d_real", "D(x)"), ("d_fake", "D(G(z))")):
            values = evidence.each(subject, SUBJECTS[subject].title, partial(_off_balance, curve))
            title = f"{SUBJECTS[subject].title}: distance of {text} from 1/2 at the end"
            claimed: Side | None = "below" if subject == "dcgan-mnist" else None
            effects.append(location(title, values, claimed, reference=BALANCE))
        told_apart = evidence.each(subject, SUBJECTS[subject].title, partial(_end, "d_accuracy"))
        effects.append(location(f"{SUBJECTS[subject].title}: D's accuracy at the end", told_apart))
    return effects


def optimisers(evidence: Evidence) -> list[Effect]:
    """C10."""
    adam, rmsprop = "adam-faces", "rmsprop-faces"
    epoch = evidence.epochs(adam)[-1]
    return [
        _compare(evidence, "Frechet distance", "frechet_distance", rmsprop, adam, epoch, "above"),
        _compare(evidence, "coverage", "coverage", rmsprop, adam, epoch),
    ]


def critic_steps(evidence: Evidence) -> list[Effect]:
    """C11."""
    alone = "dcgan-mnist"
    epoch = EQUAL_GENERATOR_STEPS[evidence.scale]
    effects = []
    for count in (2, 5):
        several = f"{alone}-{count}"
        effects.append(
            _gain(
                f"equal G steps: gain by {count} D steps, as a share",
                evidence.metric(alone, "frechet_distance", epoch),
                evidence.metric(several, "frechet_distance", epoch * count),
            )
        )
        courses = [course for name in (alone, several) for course in evidence.courses[name].values()]
        when = min(max(course.seconds.values()) for course in courses)
        when = max(when, *(min(course.seconds.values()) for course in courses))
        effects.append(
            _gain(
                f"equal time: gain by {count} D steps, as a share",
                *(evidence.each(name, SUBJECTS[name].title, partial(_distance_at, when)) for name in (alone, several)),
            )
        )
    return effects


def loss_tells_quality(evidence: Evidence) -> list[Effect]:
    """C12."""

    def correlation(course: Course) -> float:
        distances = [float(metrics["frechet_distance"]) for metrics in course.metrics.values()]
        return curves.loss_follows_quality(course.curves["d_loss"], list(course.steps.values()), distances)

    values = evidence.each("wgan-loss", "WGAN", correlation)
    return [location("Spearman's correlation of the critic's estimate with the Frechet distance", values, "above")]


def batch_and_rate(evidence: Evidence) -> list[Effect]:
    """C13."""
    effects = []
    for cell, claimed in (
        ("cell-512-2", "above"),
        ("cell-1024-2", "above"),
        ("cell-128-1", None),
        ("cell-128-3", None),
    ):
        epoch = evidence.epochs(cell)[-1]
        side: Side | None = "above" if claimed else None
        effects.append(_compare(evidence, "Frechet distance", "frechet_distance", cell, "cell-128-2", epoch, side))
    return effects


def _compare(
    evidence: Evidence, text: str, metric: str, first: str, second: str, epoch: int, claimed: Side | None = None
) -> Effect:
    """The difference of a metric between two subjects at an epoch."""
    name = f"{text}, {SUBJECTS[first].title} less {SUBJECTS[second].title}, {_at(evidence, epoch)}"
    return difference(name, evidence.metric(first, metric, epoch), evidence.metric(second, metric, epoch), claimed)


def _at(evidence: Evidence, epoch: int) -> str:
    """An epoch in words. At quick scale it is not a pass over the data."""
    return f"{'quick ' if evidence.scale == 'quick' else ''}epoch {epoch}"


def _gain(name: str, alone: Group, several: Group) -> Effect:
    """The share by which several D steps reduce the distance; the claim says that it is small."""
    unit = float(np.mean(alone[1]))
    shares = [(label, [value / unit for value in values]) for label, values in (alone, several)]
    return difference(name, shares[0], shares[1], "below", reference=LITTLE)


def _end(curve: str, course: Course) -> float:
    return curves.tail_mean(course.curves[curve])


def _off_balance(curve: str, course: Course) -> float:
    return curves.distance_from_half(course.curves[curve])


def _distance_at(when: float, course: Course) -> float:
    distances = [float(metrics["frechet_distance"]) for metrics in course.metrics.values()]
    return curves.at_time(list(course.seconds.values()), distances, when)


def _drop(metric: str, first: int, second: int, course: Course) -> float:
    return float(course.metrics[first][metric]) - float(course.metrics[second][metric])


def _octaves_off(evidence: Evidence, subject: str, epoch: int) -> Group:
    label, ratios = evidence.metric(subject, "laplacian_ratio", epoch)
    return label, [abs(float(np.log2(max(ratio, 1e-6)))) for ratio in ratios]

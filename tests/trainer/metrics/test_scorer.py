from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from exporter.graph import ServedGraph
from ganserve.bundle import LatentInput
from ganserve.metrics import GAN_METRICS, STANDARD_ERROR
from tests.trainer.tiny_trainings import CPU
from trainer.errors import UserError
from trainer.metrics import scorer
from trainer.metrics.choosing import NEED_WEIGHTS, choosing_metrics
from trainer.metrics.classifier import FeatureNetwork, feature_network
from trainer.metrics.measure_names import CHEAP_MEASURES, INCEPTION_MEASURES
from trainer.metrics.scorer import MEASURES, Comparison, measure_of, score, shown, to_pixels
from trainer.progress import Progress

pytestmark = pytest.mark.usefixtures("classifier_cache")

WEIGHTLESS = [name for name in MEASURES if name not in INCEPTION_MEASURES]


def shapes(count: int, seed: int) -> Tensor:
    """Dark images with a bright square somewhere."""
    generator = np.random.default_rng(seed)
    images = torch.zeros(count, 1, 16, 16, dtype=torch.uint8)
    for image in images:
        top, left = generator.integers(0, 9, 2)
        image[:, top : top + 6, left : left + 6] = int(generator.integers(150, 256))
    return images


def compared(fakes: Tensor, reals: Tensor, quiet: Progress, **more: Any) -> Comparison:
    return Comparison(
        fakes, reals, classifier=lambda: feature_network(shapes(200, 9), None, CPU, quiet), progress=quiet, **more
    )


def test_each_measure_returns_its_metrics_all_in_the_catalogue(quiet: Progress) -> None:
    assert [metric for measure in MEASURES.values() for metric in measure.metrics] == list(GAN_METRICS)
    for name in WEIGHTLESS:
        metrics = score(compared(shapes(30, 0), shapes(30, 1), quiet), [name]).metrics
        assert tuple(metrics) == MEASURES[name].metrics
        assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("metric", sorted(choosing_metrics(latents=True).keys() - NEED_WEIGHTS))
def test_real_images_score_better_than_noise(metric: str, quiet: Progress) -> None:
    noise = torch.randint(0, 256, (60, 1, 16, 16), dtype=torch.uint8)
    good, bad = (
        score(compared(fakes, shapes(60, 1), quiet), [measure_of(metric)]).metrics[metric]
        for fakes in (shapes(60, 0), noise)
    )
    assert good > bad if GAN_METRICS[metric].better == "larger" else good < bad


def test_the_protocol_says_how_it_was_measured(quiet: Progress) -> None:
    images = compared(shapes(40, 0), shapes(30, 1), quiet, split="test", seed=7)
    protocol = score(images, WEIGHTLESS).protocol
    metadata = images.network.metadata
    expected = {
        "image_size": 16,
        "real_images": 30,
        "fake_images": 40,
        "split": "test",
        "seed": 7,
        "pixels": "8 bits",
        "swd_images": 30,
        "ms_ssim_pairs": 640,
        "ms_ssim_scales": 5,
        "feature_sha256": metadata.weights_sha256,
        "feature_accuracy": metadata.accuracy,
        "feature_task": "rotations",
        "precision_recall_neighbours": 3,
        "density_coverage_neighbours": 5,
        "modes": 4,
    }
    assert {name: protocol[name] for name in expected} == expected
    assert len(protocol["levels"]) == 1


def test_every_metric_over_images_has_a_standard_error(quiet: Progress) -> None:
    scores = score(compared(shapes(60, 0), shapes(60, 1), quiet), WEIGHTLESS)
    errors = {name: scores.protocol.get(f"{name}{STANDARD_ERROR}", 0.0) for name in scores.metrics}
    assert {name for name, error in errors.items() if error == 0} <= {"modes_covered", "modes_kl"}


def test_cheap_measures_need_no_classifier(quiet: Progress) -> None:
    def refuse() -> FeatureNetwork:
        raise AssertionError

    score(Comparison(shapes(9, 0), shapes(9, 1), classifier=refuse, progress=quiet), CHEAP_MEASURES)


def test_the_global_random_state_is_unchanged(quiet: Progress) -> None:
    state = torch.get_rng_state()
    one, other = (score(compared(shapes(30, 0), shapes(30, 1), quiet), WEIGHTLESS) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert one == other


def test_inceptions_metrics_come_with_the_hash_of_its_weights(quiet: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    # Replaces Inception, which is slow: the mean of each eighth of the pixels.
    def network(images: Tensor) -> Tensor:
        return images.float().flatten(1).view(len(images), 8, -1).mean(2)

    monkeypatch.setattr(scorer, "load_inception", lambda *_: (network, "ab" * 32))
    images = compared(shapes(30, 0), shapes(30, 1), quiet, inception_weights=Path("weights.pth"))
    scores = score(images, ["fid", "kid"])
    assert scores.metrics.keys() == {"inception_fid", "inception_kid"}
    assert scores.protocol["inception_sha256"] == "ab" * 32
    assert "TensorFlow" in scores.protocol["inception_resizer"]
    worse = compared(255 - shapes(30, 0), shapes(30, 1), quiet, inception_weights=Path("weights.pth"))
    for name, value in score(worse, ["fid", "kid"]).metrics.items():
        assert value > 2 * scores.metrics[name]


def test_inception_without_weights_is_refused(quiet: Progress) -> None:
    with pytest.raises(UserError, match="--inception-weights"):
        score(compared(shapes(30, 0), shapes(30, 1), quiet), ["fid"])


@pytest.mark.parametrize(
    ("fakes", "flag"), [(torch.zeros(30, 3, 16, 16), "--dataset"), (torch.zeros(3, 1, 16, 16), "--images")]
)
def test_images_that_cannot_be_compared_are_refused_with_the_flag(fakes: Tensor, flag: str, quiet: Progress) -> None:
    with pytest.raises(UserError, match=flag):
        score(compared(fakes.byte(), shapes(30, 0), quiet), ["density-coverage"])


def test_pixels_equal_those_that_a_server_sends() -> None:
    images = torch.cat([torch.linspace(-1.2, 1.2, 997), torch.arange(256) / 127.5 - 1]).view(1, 1, 1, -1)
    graph = ServedGraph(torch.nn.Identity(), LatentInput(latent_dim=1))
    assert torch.equal(to_pixels(images), graph(images)[1].permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (17.523, 0.4, "17.5 ± 0.4"),
        (0.29371, 0.0123, "0.294 ± 0.012"),
        (0.29371, 0.0099, "0.294 ± 0.010"),
        (30.0, 12.3, "30 ± 12"),
        (0.5, 0.0, "0.5"),
        (0.5, math.nan, "0.5"),
        (math.nan, 0.1, "-"),
    ],
)
def test_a_standard_error_decides_the_digits(value: float, error: float, text: str) -> None:
    assert shown(value, error) == text


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "-"), (123.456, "123.46"), (0.123456, "0.1235"), (0, "0"), (1e3, "1000")]
)
def test_a_metric_is_shown_with_its_significant_digits(value: float, text: str) -> None:
    assert shown(value) == text

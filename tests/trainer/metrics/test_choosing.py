"""Which metrics can choose a checkpoint, and which of two values is better."""

from __future__ import annotations

import math

import pytest
import torch
from msgspec.structs import replace as replaced

from ganserve.metrics import CYCLE_METRICS, GAN_METRICS
from tests.trainer.tiny_trainings import CPU, cycle_config, growing_config, noise_images
from trainer.config import GanConfig
from trainer.errors import UserError
from trainer.metrics.choosing import NEED_WEIGHTS, choosing_metrics, has_best, is_best, is_better
from trainer.models import NetworkConfig
from trainer.training.gan import GanTraining

pytestmark = pytest.mark.usefixtures("classifier_cache")


def fixed_config(**fields: object) -> GanConfig:
    network = NetworkConfig(architecture="mlp-shallow", image_size=8, latent_dim=6, width=1 / 16)
    return replaced(growing_config(), growth=None, network=network, objective="nonsaturating", drift=0.0, **fields)


@pytest.mark.parametrize("metric", sorted(choosing_metrics(latents=True).keys() - NEED_WEIGHTS))
def test_any_metric_with_a_direction_can_choose_the_best_checkpoint(metric: str) -> None:
    config = fixed_config(best_by=metric)
    config.check()
    training = GanTraining(config, noise_images(config), CPU)
    evaluation = training.evaluate()
    assert evaluation.score == evaluation.metrics[metric]
    assert evaluation.larger_is_better == (GAN_METRICS[metric].better == "larger")
    with torch.no_grad():
        next(training.state.ema_generator.parameters()).fill_(math.nan)
    assert training.evaluate().score == (-math.inf if evaluation.larger_is_better else math.inf)


@pytest.mark.parametrize("best_by", ["ms_ssim", "paired_l1", "fid", "d_loss"])
def test_a_metric_that_cannot_choose_is_refused_with_the_valid_ones(best_by: str) -> None:
    with pytest.raises(UserError, match=f"--best-by '{best_by}': choose one of sliced_wasserstein_distance"):
        fixed_config(best_by=best_by).check()


@pytest.mark.parametrize("best_by", sorted(NEED_WEIGHTS))
def test_a_metric_of_inception_chooses_only_with_weights(best_by: str) -> None:
    with pytest.raises(UserError, match=f"^--best-by {best_by}: give --inception-weights FILE as well$"):
        fixed_config(best_by=best_by).check()
    fixed_config(best_by=best_by, inception_weights="weights.pth").check()


def test_each_kind_of_training_has_its_own_default() -> None:
    assert fixed_config().score_metric == "frechet_distance"
    assert growing_config().score_metric == "sliced_wasserstein_distance"
    assert cycle_config().score_metric == "paired_l1"
    assert choosing_metrics(latents=False) == CYCLE_METRICS


def test_the_direction_of_a_metric_decides_which_value_is_better() -> None:
    assert is_better("frechet_distance", 1, 2)
    assert is_better("recall", 2, 1)
    assert not is_better("ms_ssim", 1, 2)
    assert not is_better("ms_ssim", 2, 1)
    assert is_best("recall", 2, [1, 2])
    assert not is_best("recall", 1, [1, 2])
    assert not is_best("ms_ssim", 1, [1, 2])


def test_baselines_and_unknown_metrics_have_no_best() -> None:
    assert not has_best("paired_l1_unchanged")
    assert not has_best("nonsense")

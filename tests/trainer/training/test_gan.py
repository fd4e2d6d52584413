from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from torch import Tensor

from ganserve.latents import latents_from_seed
from tests.trainer.tiny_trainings import CPU, box_means, growing_config, noise_images, train_run
from trainer.config import GanConfig
from trainer.data.datasets import stream_indices, to_unit_range
from trainer.metrics import scorer
from trainer.metrics.diversity import ms_ssim_between
from trainer.metrics.sliced_wasserstein import sliced_wasserstein_distance
from trainer.models import NetworkConfig
from trainer.progress import Progress
from trainer.runs.plots import grid_image
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.training import gan
from trainer.training.gan import GanTraining
from trainer.training.gan_step import GanState, StepResult, new_state, train_step


def start(config: GanConfig) -> GanTraining:
    return GanTraining(config, noise_images(config), CPU)


def take(training: GanTraining, count: int) -> None:
    for _ in range(count):
        training.train_step(0.0)


def fixed_config(**fields: Any) -> GanConfig:
    network = NetworkConfig(architecture="mlp-shallow", image_size=8, latent_dim=6, width=1 / 16)
    return replace(growing_config(), growth=None, network=network, objective="nonsaturating", drift=0.0, **fields)


def test_a_pass_over_the_data_shows_every_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Tensor] = []

    def only_count(state: GanState, _config: GanConfig, reals: Tensor) -> StepResult:
        shown.append(reals)
        state.images_seen += len(reals)
        nothing = torch.zeros(())
        return StepResult(nothing, nothing, nothing, None, None, None)

    monkeypatch.setattr(gan, "train_step", only_count)
    config = fixed_config(batch_size=6)
    data = noise_images(config)
    training = GanTraining(config, data, CPU)
    take(training, 3)
    assert training.images_per_epoch == training.data_images == 18
    assert sorted(torch.cat(shown).flatten(1).tolist()) == sorted(to_unit_range(data.images).flatten(1).tolist())


def test_a_network_that_does_not_grow_has_one_size_and_one_batch() -> None:
    training = start(fixed_config())
    for _ in range(3):
        assert (training.output_size, training.fade, training.batch_size) == (8, 1.0, 4)
        assert not training.about_to_grow
        assert not {"resolution", "alpha"} & training.train_step(0.0).keys()
    assert all(optimizer.state for optimizer in training.state.optimizers.values())


def test_the_grid_of_samples_grows_and_is_of_the_same_latents() -> None:
    training = start(growing_config())
    sizes = []
    for _ in range(4):
        assert training.sample().tobytes() == training.sample().tobytes()
        sizes.append(training.sample().size)
        take(training, 3)
    assert sizes == [(8 * (size + 2) + 2,) * 2 for size in (4, 8, 8, 16)]


@pytest.mark.parametrize("shown_pixels", [128, 5])
def test_the_traversal_sheet_moves_single_dimensions_of_the_sampled_latents(
    shown_pixels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gan, "_TRAVERSAL_PIXELS", shown_pixels)
    config = fixed_config()
    training = start(config)
    run = RunFolder.create(tmp_path, config)
    training.draw_figures(run)
    latents = torch.from_numpy(latents_from_seed(config.seed, 8, 6)).repeat(15, 1)
    for line in range(15):
        latents[8 * line : 8 * line + 8, (0, 1, 3, 4, 5)[line // 3]] = (-3, 0, 3)[line % 3]
    side = min(8, shown_pixels)
    with torch.inference_mode():
        images = torch.nn.functional.adaptive_avg_pool2d(training.state.ema_generator(latents), side)
    grid = np.asarray(grid_image(images))
    with Image.open(run.figures / "traversal.png") as sheet:
        drawn = np.asarray(sheet)
    np.testing.assert_array_equal(drawn[:, -grid.shape[1] :], grid)
    assert (drawn.shape[1] > grid.shape[1]) == (side + 2 >= 9)  # there is room for labels


def test_the_user_is_told_of_the_size_and_the_fade() -> None:
    row = {"d_loss": 1.0, "g_loss": None, "d_real": 0.5, "d_fake": 0.25}
    training = start(fixed_config())
    plain = training.describe(row)
    assert plain == "D 1.000 G - D(x) 0.500 D(G(z)) 0.250"
    assert training.describe(row | {"resolution": 8.0, "alpha": 1.0}) == f"8x8 {plain}"
    assert training.describe(row | {"resolution": 16.0, "alpha": 0.25}) == f"16x16 25% {plain}"


def test_the_score_is_that_of_the_averaged_generator_at_the_size_it_has() -> None:
    config = growing_config(seed=3)
    data = noise_images(config)
    training = GanTraining(config, data, CPU)
    take(training, 5)
    evaluation = training.evaluate()
    latents = torch.from_numpy(latents_from_seed(3, 16, 8))
    with torch.inference_mode():
        fakes = training.state.ema_generator(latents)
    chosen = stream_indices(3, 0, 16, len(data))
    reals = box_means(to_unit_range(data.images[chosen]).numpy(), 8)
    pixels = [((images + 1) * 127.5).round().clamp(0, 255).byte() for images in (torch.from_numpy(reals), fakes)]
    levels = sliced_wasserstein_distance(pixels[0], pixels[1], seed=3)
    assert evaluation.score == pytest.approx(sum(levels) / len(levels), rel=1e-3)
    similarities = {"ms_ssim": ms_ssim_between(pixels[1]), "ms_ssim_real": ms_ssim_between(pixels[0])}
    expected = {"sliced_wasserstein_distance": evaluation.score} | similarities
    assert evaluation.metrics == pytest.approx(expected, rel=1e-3)
    assert evaluation.protocol["levels"] == pytest.approx(levels, rel=1e-3)
    counts = {"image_size": 8, "real_images": 16, "fake_images": 16, "split": "train"}
    assert {name: evaluation.protocol[name] for name in counts} == counts
    assert f"SWD {evaluation.score:.2f}" in evaluation.text


def test_a_network_that_does_not_grow_is_always_measured_in_features(classifier_cache: Path) -> None:
    evaluation = start(fixed_config()).evaluate()
    assert evaluation.score == evaluation.metrics["frechet_distance"]
    assert {"sliced_wasserstein_distance", "ms_ssim", "precision", "recall"} < evaluation.metrics.keys()
    assert {"feature_sha256", "feature_variance", "feature_accuracy"} < evaluation.protocol.keys()


@pytest.mark.parametrize(("count", "wanted", "each"), [(40, 16, 16), (18, 16, 9), (12, 16, 6)])
def test_the_floor_compares_the_first_real_images_with_as_many_others(count: int, wanted: int, each: int) -> None:
    config = growing_config(seed=3, evaluation_images=wanted)
    data = noise_images(config, count)
    training = GanTraining(config, data, CPU)
    floor, evaluation = training.measure_floor(), training.evaluate()
    assert floor is not None
    assert floor.metrics.keys() == evaluation.metrics.keys()
    assert floor.protocol.keys() == evaluation.protocol.keys()
    assert (floor.protocol["real_images"], floor.protocol["fake_images"]) == (each, each)
    order = stream_indices(3, 0, 2 * each, count)
    ones, others = (
        torch.from_numpy(box_means(to_unit_range(data.images[half]).numpy(), 4)) for half in torch.split(order, each)
    )
    ones, others = (((images + 1) * 127.5).round().clamp(0, 255).byte() for images in (ones, others))
    (level,) = sliced_wasserstein_distance(ones, others, seed=3)
    assert floor.metrics["sliced_wasserstein_distance"] == pytest.approx(level, rel=1e-3)


def test_too_few_images_for_two_sets_have_no_floor() -> None:
    config = growing_config()
    assert GanTraining(config, noise_images(config, 11), CPU).measure_floor() is None


def test_the_classifier_is_trained_before_the_first_step(classifier_cache: Path, quiet: Progress) -> None:
    start(growing_config()).prepare_evaluations(quiet)
    assert list(classifier_cache.rglob("*.safetensors"))


def test_a_growing_network_is_measured_in_features_at_its_final_size_only(classifier_cache: Path) -> None:
    training = start(growing_config())
    assert "frechet_distance" not in training.evaluate().metrics
    training.restored(training._config.network.image_size, 1.0)
    evaluation = training.evaluate()
    assert evaluation.metrics["frechet_distance"] > 0
    assert evaluation.score == evaluation.metrics["sliced_wasserstein_distance"]


@pytest.mark.parametrize("metric", ["inception_fid", "inception_kid"])
def test_inceptions_metrics_choose_the_best_checkpoint(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Replaces Inception, which is slow: the mean of each eighth of the pixels.
    def network(images: Tensor) -> Tensor:
        return images.float().flatten(1).view(len(images), 8, -1).mean(2)

    monkeypatch.setattr(scorer, "load_inception", lambda *_: (network, "ab" * 32))
    evaluation = start(fixed_config(best_by=metric, inception_weights="weights.pth")).evaluate()
    assert evaluation.score == evaluation.metrics[metric]
    assert {"inception_fid", "inception_kid", "frechet_distance"} < evaluation.metrics.keys()
    assert evaluation.protocol["inception_sha256"] == "ab" * 32


def test_few_images_are_compared_with_as_many_fakes() -> None:
    protocol = start(fixed_config(evaluation_images=512)).evaluate().protocol
    assert (protocol["real_images"], protocol["fake_images"]) == (18, 18)


def test_images_that_are_not_finite_have_the_worst_score() -> None:
    training = start(fixed_config())
    with torch.no_grad():
        next(training.state.ema_generator.parameters()).fill_(float("nan"))
    assert training.evaluate().score == float("inf")


@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_the_drift_term_is_the_mean_squared_score_of_the_reals(drift: float) -> None:
    config = growing_config(objective="wgan", drift=drift)
    state = new_state(config, CPU)
    critic = copy.deepcopy(state.discriminator)
    fakes: list[Tensor] = []
    state.generator.register_forward_hook(lambda _module, _inputs, images: fakes.append(images.detach().clone()))
    reals = to_unit_range(noise_images(config, 4).images)
    measured = train_step(state, config, reals)
    scores = critic(reals)
    loss = critic(fakes[0]).mean() - scores.mean() + drift * (scores**2).mean()
    torch.testing.assert_close(measured.discriminator_loss, loss.detach())
    loss.backward()
    for name, parameter in state.discriminator.named_parameters():
        torch.testing.assert_close(parameter.grad, critic.get_parameter(name).grad, msg=name)


def test_a_run_whose_score_is_not_finite_can_be_read_and_resumed(
    tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "distances_and_error", lambda *_, **__: ([float("nan"), 1.0], float("nan")))
    config = fixed_config(steps=2)
    run = RunFolder.create(tmp_path, config)
    train_run(config, noise_images(config), run, quiet, monkeypatch)
    assert [row["sliced_wasserstein_distance"] for row in run.metrics.read() if row["kind"] == "evaluation"] == [None]
    longer = replace(config, steps=4)
    assert train_run(longer, noise_images(config), run, quiet, monkeypatch, resume=True).state.step == 4
    for which in ("best", "last"):
        (exported,) = load_generators(run.path, which)
        assert exported.training["sliced_wasserstein_distance"] is None

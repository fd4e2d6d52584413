from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainer.tiny_trainings import CPU, Batches, cycle_config, noise, noise_domains, record_batches
from trainer.data.datasets import to_unit_range
from trainer.data.unpaired import UnpairedData
from trainer.metrics.translation import ms_ssims
from trainer.runs.plots import ROW_LABEL_PIXELS
from trainer.training.cyclegan import CycleTraining


class _Affine(nn.Module):
    """A translator that anyone can work out."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images + self.shift


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Batches]:
    return record_batches(monkeypatch)


def mean_l1(one: Tensor, other: Tensor) -> float:
    """Of pixels 0..255, as a share of that range."""
    return float(np.abs(one.double().numpy() - other.double().numpy()).mean() / 255)


def training_with(data: UnpairedData, ab: nn.Module, ba: nn.Module, **fields: Any) -> CycleTraining:
    training = CycleTraining(cycle_config(**fields), data, CPU)
    training.state.generator_ab, training.state.generator_ba = ab, ba
    return training


def test_translators_that_change_nothing_score_as_the_unchanged_images() -> None:
    data = noise_domains(paired=True)
    evaluation = training_with(data, nn.Identity(), nn.Identity()).evaluate()
    error = mean_l1(data.test_a, data.test_b)
    similarity = float(ms_ssims(to_unit_range(data.test_a), to_unit_range(data.test_b)).mean())
    assert evaluation.metrics == pytest.approx(
        {
            "cycle_l1": 0.0,
            "identity_l1": 0.0,
            "paired_l1_ab": error,
            "paired_l1_ba": error,
            "paired_l1": error,
            "paired_l1_unchanged": error,
            "paired_ms_ssim_ab": similarity,
            "paired_ms_ssim_ba": similarity,
            "paired_ms_ssim": similarity,
            "paired_ms_ssim_unchanged": similarity,
        },
        rel=1e-5,
    )
    assert evaluation.score == pytest.approx(error)
    assert error > 0.1
    expected = {"images_a": 5, "images_b": 5, "split": "test", "image_size": 32}
    assert {name: evaluation.protocol[name] for name in expected} == expected
    assert f"L1 {error:.4f} (unchanged {error:.4f})" in evaluation.text


def test_each_direction_is_measured_against_its_own_partner() -> None:
    data = noise_domains(paired=True)
    a, b = data.test_a.double(), data.test_b.double()
    # In pixels: ab halves the contrast, ba makes everything the same gray.
    figures = training_with(data, _Affine(0.5, 0.0), _Affine(0.0, 0.2)).evaluate().metrics
    gray = torch.full_like(a, 153.0)

    def ab(images: Tensor) -> Tensor:
        return images / 2 + 63.75

    expected = {
        "paired_l1_ab": mean_l1(ab(a), b),
        "paired_l1_ba": mean_l1(gray, a),
        "cycle_l1": (mean_l1(gray, a) + mean_l1(ab(gray), b)) / 2,
        "identity_l1": (mean_l1(ab(b), b) + mean_l1(gray, a)) / 2,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_the_score_is_the_mean_error_of_both_directions() -> None:
    evaluation = training_with(noise_domains(paired=True), _Affine(0.5, 0.0), _Affine(0.0, 0.2)).evaluate()
    figures = evaluation.metrics
    assert evaluation.score == pytest.approx((figures["paired_l1_ab"] + figures["paired_l1_ba"]) / 2)
    assert figures["paired_l1_ab"] != pytest.approx(figures["paired_l1_ba"])


def test_the_standard_errors_come_from_the_spread_over_pairs() -> None:
    data = noise_domains(paired=True)
    protocol = training_with(data, nn.Identity(), nn.Identity()).evaluate().protocol
    of_pairs = [mean_l1(one, other) for one, other in zip(data.test_a, data.test_b, strict=True)]
    # Both directions have the same errors here, so they say no more than one.
    assert protocol["paired_l1_standard_error"] == pytest.approx(np.std(of_pairs, ddof=1) / np.sqrt(5), rel=1e-3)
    assert protocol["cycle_l1_standard_error"] == 0


def test_the_baseline_does_not_move_with_the_translators() -> None:
    config, data = cycle_config(), noise_domains(paired=True)
    training = CycleTraining(config, data, CPU)
    before = training.evaluate().metrics
    training.train_step(0.0)
    after = training.evaluate().metrics
    moved = {name for name in before if before[name] != after[name]}
    assert moved == set(before) - {"paired_l1_unchanged", "paired_ms_ssim_unchanged"}


@pytest.mark.parametrize(
    ("tests", "split", "counts"),
    [((5, 3), "test", (5, 3)), ((0, 0), "train", (8, 6)), ((5, 0), "train", (8, 6)), ((20, 3), "test", (16, 3))],
)
def test_images_that_are_no_pairs_have_no_score(tests: tuple[int, int], split: str, counts: tuple[int, int]) -> None:
    evaluation = CycleTraining(cycle_config(), noise_domains(tests=tests, paired=False), CPU).evaluate()
    assert evaluation.score is None
    assert evaluation.metrics.keys() == {"cycle_l1", "identity_l1"}
    assert evaluation.protocol["split"] == split
    assert (evaluation.protocol["images_a"], evaluation.protocol["images_b"]) == counts
    assert "partners" not in evaluation.text


def test_domains_of_different_sizes_are_each_shown_pass_by_pass(shown: list[Batches]) -> None:
    # Every image is one gray of its own, so that it is known again.
    a, b = (torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 32, 32) for count in (65, 20))
    nothing = noise(0, 32, 0)
    data = UnpairedData("grays", a.contiguous(), b.contiguous(), nothing, nothing, test_is_paired=False)
    training = CycleTraining(cycle_config(), data, CPU)
    for _ in range(33):  # two passes over A and two images, six over B and twelve
        training.train_step(0.0)
    assert (training.images_per_epoch, training.data_images) == (65, 85)
    shown_a, shown_b = ([getattr(batch, name) for batch in shown] for name in ("real_a", "real_b"))
    for batches, count in ((shown_a, 65), (shown_b, 20)):
        order = [round(level) for batch in batches for level in batch.mean((1, 2, 3)).tolist()]
        assert len(order) == 132
        passes = [order[start : start + count] for start in range(0, 132, count)]
        for whole in passes[:-1]:
            assert sorted(whole) == list(range(count))
        assert len(set(passes[-1])) == len(passes[-1])
        assert passes[0] != passes[1]


def test_the_domains_are_in_orders_of_their_own(shown: list[Batches]) -> None:
    same = noise(16, 32, 3)
    data = UnpairedData("same", same, same, noise(0, 32, 0), noise(0, 32, 0), test_is_paired=False)
    training = CycleTraining(cycle_config(mirror=False), data, CPU)
    for _ in range(4):
        training.train_step(0.0)
    assert not all(torch.equal(a, b) for a, b, _ in shown)


def _orientations(shown: list[Batches], data: UnpairedData) -> Counter[bool]:
    """How often an image was shown mirrored; each must be one of the data."""
    known = {image.numpy().tobytes(): False for image in (*data.train_a, *data.train_b)}
    known |= {image.flip(-1).numpy().tobytes(): True for image in (*data.train_a, *data.train_b)}
    pixels = [image.round().to(torch.uint8) for a, b, _ in shown for image in (*a, *b)]
    return Counter(known[image.numpy().tobytes()] for image in pixels)


def test_without_mirroring_every_image_is_shown_as_it_is(shown: list[Batches]) -> None:
    data = noise_domains(paired=False)
    training = CycleTraining(cycle_config(mirror=False), data, CPU)
    for _ in range(10):
        training.train_step(0.0)
    assert _orientations(shown, data) == {False: 80}


def test_with_jitter_images_of_both_domains_are_enlarged_and_cropped_the_same_in_each_run(shown: list[Batches]) -> None:
    data = noise_domains((4, 4), paired=False)  # one batch shows all images
    for _ in range(2):
        torch.manual_seed(3)
        CycleTraining(cycle_config(mirror=False, jitter=True), data, CPU).train_step(0.0)
    for batch, images in ((shown[0].real_a, data.train_a), (shown[0].real_b, data.train_b)):
        assert batch.shape == images.shape
        assert batch.min() >= 0
        assert batch.max() <= 255
        assert not any(torch.allclose(crop, image.float()) for crop in batch for image in images)
    assert torch.equal(shown[0].real_a, shown[1].real_a)
    assert torch.equal(shown[0].real_b, shown[1].real_b)


def test_with_mirroring_half_of_the_images_are_mirrored(shown: list[Batches]) -> None:
    data = noise_domains(paired=False)
    training = CycleTraining(cycle_config(mirror=True), data, CPU)
    for _ in range(50):
        training.train_step(0.0)
    orientations = _orientations(shown, data)
    assert orientations.total() == 400
    assert 140 < orientations[True] < 260  # six standard deviations
    within_a_batch = [_orientations([Batches(a, a[:0], 0.0)], data) for a, _, _ in shown]
    assert any(len(found) == 2 for found in within_a_batch)


@pytest.mark.parametrize(("tests", "columns"), [((5, 5), 5), ((20, 20), 8), ((0, 0), 6), ((9, 3), 3)])
def test_a_sample_has_four_rows_of_test_images(tests: tuple[int, int], columns: int) -> None:
    training = CycleTraining(cycle_config(), noise_domains(tests=tests, paired=False), CPU)
    sample = training.sample()
    assert sample.size == (ROW_LABEL_PIXELS + columns * 34 + 2, 4 * 34 + 2)
    assert sample.tobytes() == training.sample().tobytes()


def test_the_rows_of_a_sample_are_real_and_fake_of_both_domains() -> None:
    data = noise_domains(tests=(2, 2), paired=True)
    sample = np.asarray(training_with(data, _Affine(-1.0, 0.0), _Affine(0.0, 1.0)).sample())[..., 0].astype(int)
    first = [sample[top : top + 32, ROW_LABEL_PIXELS + 2 :][:, :32] for top in (2, 36, 70, 104)]
    a, b = data.test_a[0, 0].numpy(), data.test_b[0, 0].numpy()
    for pixels, expected in zip(first, (a, 255 - a.astype(int), b, np.full((32, 32), 255)), strict=True):
        assert np.abs(pixels - expected).max() <= 1


def test_the_factor_reaches_both_optimisers() -> None:
    training = CycleTraining(cycle_config(), noise_domains(paired=False), CPU)
    training.train_step(0.99)
    rates = [group["lr"] for optimizer in training.state.optimizers.values() for group in optimizer.param_groups]
    assert rates == [pytest.approx(2e-4 * 0.02)] * 2


def test_the_user_is_told_the_losses_of_both_sides_and_the_parts_of_the_generators() -> None:
    training = CycleTraining(cycle_config(), noise_domains(paired=False), CPU)
    measured = training.train_step(0.0)
    line = training.describe({name: value.item() for name, value in measured.items() if value is not None})
    for part in ("D ", "G ", "cycle", "identity"):
        assert part in line

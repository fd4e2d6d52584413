from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.objectives import (
    OBJECTIVES,
    bce_discriminator_loss,
    divergence_penalty,
    gradient_norms,
    gradient_penalty,
    hinge_discriminator_loss,
    hinge_generator_loss,
    interpolate,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    nonsaturating_generator_loss,
    read_scores,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
    saturating_generator_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
    zero_centred_penalty,
)

SHAPE = (5, 3, 8, 8)
PIXELS = 3 * 8 * 8


def linear_critic(weight: Tensor) -> object:
    return lambda images: (images * weight).flatten(1).sum(1)


def total(images: Tensor) -> Tensor:
    """A critic whose gradient is 1 at every pixel."""
    return images.flatten(1).sum(1)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    return torch.randn(SHAPE), torch.randn(SHAPE)


def test_gan_losses_equal_binary_cross_entropy_of_the_sigmoid() -> None:
    real, fake = torch.randn(16), torch.randn(16)
    ones, zeros = torch.ones(16), torch.zeros(16)

    def bce(logits: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy(torch.sigmoid(logits), labels)

    torch.testing.assert_close(bce_discriminator_loss(real, fake), bce(real, ones) + bce(fake, zeros))
    torch.testing.assert_close(nonsaturating_generator_loss(fake), bce(fake, ones))
    torch.testing.assert_close(saturating_generator_loss(fake), -bce(fake, zeros))


def test_hinge_losses_ignore_scores_beyond_the_margin() -> None:
    real, fake = torch.tensor([3.0, 0.5, -1.0]), torch.tensor([-3.0, -0.5, 1.0])
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx((0.5 + 2) / 3 + (0.5 + 2) / 3)
    assert hinge_generator_loss(fake).item() == pytest.approx(2.5 / 3)


def test_least_squares_losses_are_half_the_squared_distances_from_1_and_0() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, -2.0])
    assert least_squares_discriminator_loss(real, fake).item() == pytest.approx((2 + 2) / 2)
    assert least_squares_generator_loss(fake).item() == pytest.approx((1 + 9) / 2 / 2)


def test_relativistic_losses_are_cross_entropies_of_the_difference_of_a_pair() -> None:
    real, fake = torch.randn(16), torch.randn(16)
    ones = torch.ones(16)
    bce = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(relativistic_discriminator_loss(real, fake), bce(real - fake, ones))
    torch.testing.assert_close(relativistic_generator_loss(fake, real), bce(fake - real, ones))


def test_the_zero_centred_penalty_of_a_linear_critic_is_half_its_squared_norm() -> None:
    weight = torch.randn(SHAPE[1:])
    penalty = zero_centred_penalty(linear_critic(weight), torch.randn(SHAPE))  # type: ignore[arg-type]
    torch.testing.assert_close(penalty, weight.square().sum() / 2)


def test_every_generator_loss_pushes_scores_of_fakes_up() -> None:
    losses = (
        *(nonsaturating_generator_loss, saturating_generator_loss, wasserstein_generator_loss, hinge_generator_loss),
        *(least_squares_generator_loss, lambda logits: relativistic_generator_loss(logits, torch.randn(4))),
    )
    for loss in losses:
        logits = torch.zeros(4, requires_grad=True)
        loss(logits).backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        assert (logits.grad < 0).all()


def test_losses_are_finite_for_extreme_logits() -> None:
    logits = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(bce_discriminator_loss(logits, logits))
    assert torch.isfinite(nonsaturating_generator_loss(logits))


def test_the_critics_loss_is_the_difference_of_mean_scores() -> None:
    real, fake = torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0])
    assert wasserstein_critic_loss(real, fake).item() == pytest.approx(-2.5)


def test_the_gradient_norm_is_taken_over_all_pixels_of_a_sample() -> None:
    weight = torch.randn(SHAPE[1:])
    norms = gradient_norms(linear_critic(weight), torch.randn(SHAPE))  # type: ignore[arg-type]
    torch.testing.assert_close(norms, weight.norm().expand(SHAPE[0]))


def test_the_gradient_penalty_of_a_summing_critic_matches_the_closed_form(pair: tuple[Tensor, Tensor]) -> None:
    assert gradient_penalty(total, *pair).item() == pytest.approx((math.sqrt(PIXELS) - 1) ** 2, rel=1e-5)


@pytest.mark.parametrize("points", ["interpolates", "real-and-fake"])
@pytest.mark.parametrize("power", [2.0, 6.0])
def test_the_divergence_penalty_of_a_summing_critic_matches_the_closed_form(
    pair: tuple[Tensor, Tensor], power: float, points: str
) -> None:
    penalty = divergence_penalty(total, *pair, power, points)  # type: ignore[arg-type]
    assert penalty.item() == pytest.approx(PIXELS ** (power / 2), rel=1e-4)


def test_penalties_do_not_depend_on_the_sign_of_the_critic(pair: tuple[Tensor, Tensor]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 9), nn.Tanh(), nn.Linear(9, 1))

    def critic(images: Tensor) -> Tensor:
        return network(images).squeeze(1)  # type: ignore[no-any-return]

    def flipped(images: Tensor) -> Tensor:
        return -critic(images)

    for penalty in (gradient_penalty, lambda c, r, f: divergence_penalty(c, r, f, 6.0)):
        torch.manual_seed(3)
        plain = penalty(critic, *pair)
        torch.manual_seed(3)
        torch.testing.assert_close(penalty(flipped, *pair), plain)


def test_each_sample_is_interpolated_with_its_own_weight() -> None:
    points = interpolate(torch.ones(64, 3, 4, 4), torch.zeros(64, 3, 4, 4))
    weights = points.flatten(1)
    assert (weights == weights[:, :1]).all()
    assert len(set(weights[:, 0].tolist())) == 64
    assert weights.min() >= 0
    assert weights.max() <= 1


def test_the_penalty_can_be_differentiated_with_respect_to_the_critic(pair: tuple[Tensor, Tensor]) -> None:
    last = nn.Linear(7, 1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 7), nn.LeakyReLU(0.2), last)
    gradient_penalty(lambda images: network(images).squeeze(1), *pair).backward()  # type: ignore[no-untyped-call]
    assert last.weight.grad is not None
    assert last.weight.grad.abs().max() > 0


def test_a_critic_without_a_gradient_gives_a_finite_penalty_and_finite_weight_gradients(
    pair: tuple[Tensor, Tensor],
) -> None:
    scale = torch.zeros((), requires_grad=True)
    penalty = gradient_penalty(lambda images: total(images) * scale, *pair)
    penalty.backward()  # type: ignore[no-untyped-call]
    assert penalty.item() == pytest.approx(1)
    assert scale.grad is not None
    assert torch.isfinite(scale.grad)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_scores_are_probabilities_for_gans_and_raw_for_critics(name: str) -> None:
    logits = torch.tensor([-5.0, 3.0, 20.0])
    score = read_scores(OBJECTIVES[name], logits).item()
    gan = name in {"nonsaturating", "saturating"}
    assert score == pytest.approx(torch.sigmoid(logits).mean().item() if gan else 6.0)
